"""Assignments: what an exercise is, how it is handed out, how answers are graded."""
