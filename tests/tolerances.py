"""All tolerances of the tests, each with its reason. They are never widened to pass."""

# Two ways to compute one number in float64 that differ by rounding alone: a few hundred
# operations at 1e-16 each, with room for mild cancellation.
IDENTITY = 1e-11

# Solvers of one ridge problem. All square its condition number: with the ridge of the chapter
# (1e-6) next to eigenvalues of order 1 to 100 the obvious method itself keeps 8 to 9 digits.
# The claim LU-A4 demands 1e-6.
ROUTES = 1e-7

# Deviations in standard errors. 4.5 is exceeded once in 150,000 comparisons of a right answer,
# so about 300 comparisons in all tests together give a false alarm in one of 500 seeds.
SIGMAS = 4.5

# Smallest p-value of a Kolmogorov-Smirnov test that counts as agreement. With about 50 such
# tests a right sampler fails in one of 2,000 seeds.
KS_P = 1e-5

# Asymptotic errors: reference values are printed with ten digits.
PRINTED = 1e-9

# Closed form against root search, and one closed form against another that cancels: the ledger
# demands 1e-8 to 1e-10, the worst of 2,000 random points was 2e-14.
ROOT = 1e-10

# Errors against 60-digit arithmetic: every term of the sums is non-negative, so that only a few
# roundings add up; the worst of 600 random points was 2.3e-15.
SIXTY_DIGITS = 1e-13

# A minimum located by values is good to the square root of rounding times the flatness.
MINIMUM = 1e-6

# Trained networks in float32 against the same weights in float64: about a hundred products and
# sums in sequence at 6e-8 each, on numbers of order 1 that partly cancel.
FLOAT32 = 1e-4

# Training in float64, one model alone against the same model among others: batched products may
# add in another order, and 60 steps of an optimiser enlarge the rounding.
TRAINING = 1e-7
