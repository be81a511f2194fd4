"""The authors' published numbers: complete, typed, and near the theory."""

import numpy as np
import pytest

from iclkit.papers.phase_transition import learning_curve, published


def test_figure_1_has_its_eighteen_points():
    points = published("figure1")
    assert len(points["icl"]) == 18
    assert set(points["alpha"]) == {1, 10, 100}
    assert set(points["d"]) == {100}
    assert points["icl_stderr"] == pytest.approx(points["icl_std"] / 3)
    assert np.all(np.isnan(points["gap"]))


def test_figure_1_deviates_from_theory_as_stated():  # LU-S7
    points = published("figure1")
    curve = learning_curve(*(points[name] for name in ("alpha", "kappa", "tau", "rho", "penalty")))
    off = np.concatenate([points["icl"] / curve.icl, points["idg"] / curve.idg]) - 1
    assert np.abs(off).max() < 0.16
    assert np.sqrt(np.mean(off**2)) == pytest.approx(0.059, abs=0.002)


def test_demonstration_rows_are_marked_as_such():
    gaps, errors = published("figure4_demo"), published("figure1_demo")
    assert gaps["gap"] == pytest.approx([0.0023117764, 0.3602473086, 1.466649257, 0.73809605])
    assert gaps["kappa"].tolist() == [np.inf, 1, 1, 1000]
    assert gaps["model"].tolist() == ["linear_attention"] * 2 + ["pool_bayes"] * 2
    assert errors["icl"] == pytest.approx([0.9646522, 0.9524563])
    assert all("demonstration" in note for note in [*gaps["note"], *errors["note"]])


def test_figure_5a_peaks_where_the_rank_says():  # LU-F6
    points = published("figure5a")
    for d in (20, 40):
        own = points["d"] == d
        peak = points["tau"][own][np.argmax(points["icl"][own])]
        assert abs(peak - (d**2 + 4 * d + 2) / d**2) < 0.05
    assert points["icl_stderr"][0] == pytest.approx(0.153)


def test_every_point_names_its_source():
    for figure in ("figure1", "figure1_demo", "figure4_demo", "figure5a"):
        assert all("Pehlevan-Group" in source for source in published(figure)["source"])


def test_an_unknown_figure_is_named():
    with pytest.raises(ValueError, match=r"figure must be one of figure1, .*, got 'figure9'"):
        published("figure9")
