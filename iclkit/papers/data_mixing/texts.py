"""The experiment on real sources: labelled texts as vectors, one source per language.

For the page on real languages. Nothing here knows where texts come from: a source is a matrix of
embeddings and a vector of labels. Texts are split before anything else, so that test prompts hold
no text of pretraining; prompts are drawn from finite pools.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import (
    border,
    count,
    finite_array,
    flag,
    generator,
    instance,
    keep,
    real_array,
    same_length,
    scalar,
    shown,
)
from iclkit.hermite import Function, activation
from iclkit.papers.data_mixing.head import (
    Head,
    PreActivations,
    ReadoutPath,
    draw_head,
    linear_path,
    norm_scale,
    positive_ridges,
    readout_path,
    take_step,
)
from iclkit.papers.data_mixing.simulation import FeatureMap, checked_maps, network_features
from iclkit.papers.data_mixing.sources import (
    Contexts,
    MixturePools,
    join,
    magnitude,
    row,
    summarise,
)

__all__ = [
    "RIDGES",
    "Plan",
    "Pool",
    "SourceStatistics",
    "Study",
    "Texts",
    "Training",
    "context_ridge_errors",
    "draw_contexts",
    "draw_study",
    "error_rows",
    "linear_errors",
    "network_errors",
    "pre_activations",
    "prepare_texts",
    "source_statistics",
    "with_label_noise",
]

Floats = NDArray[Any]

#: Ridges to choose from, where features have a mean square of about one.
RIDGES: Final = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)
_BLOCK = 512  # prompts whose texts are gathered at one time
_FAR = 3.0  # pre-activations beyond are tails
_FLAT = 1e-9  # relative spread below which labels count as constant


class Pool(NamedTuple):
    """Texts of one language, ready for prompts.

    Attributes
    ----------
    x : (n, d) array
        Inputs of length sqrt(d).
    y : (n,) array
        Labels in units of the spread of the language's pretraining labels, around their mean.
    """

    x: Floats
    y: Floats


class Texts(NamedTuple):
    """Pools of several languages, cut in two: no text is in both parts.

    Attributes
    ----------
    train, test : dict of str to Pool
        By language.
    """

    train: dict[str, Pool]
    test: dict[str, Pool]


@border
def prepare_texts(
    sources: Mapping[str, tuple[ArrayLike, ArrayLike]],
    d: int,
    *,
    rng: np.random.Generator,
    train_share: float = 0.7,
    aligned: bool = False,
) -> Texts:
    """Return labelled embeddings as pools: split, centred, reduced to d dimensions, scaled.

    Parameters
    ----------
    sources : mapping of str to (embeddings, labels)
        By language: (n, D) and (n,) arrays.
    d : int
        Dimension of the inputs, at most D.
    rng : numpy.random.Generator
        Of the split.
    train_share : float
        Part of each language's texts that goes to pretraining, between 0 and 1.
    aligned : bool
        Row i of every source is one and the same object: split all of them alike.

    Returns
    -------
    Texts

    Raises
    ------
    ValueError
        If there is no source, shapes disagree, a value is not finite, a language has too few
        texts or constant labels, or `d` is too large.

    Notes
    -----
    In order: a random split of each language; subtraction of the language's own mean embedding;
    principal components of all languages together, equal numbers of texts from each; every vector
    scaled to length sqrt(d); labels less their mean, over their standard deviation. Means,
    components and deviations are those of the pretraining parts.

    References
    ----------
    Demir and Dogan 2025, section on real data: components and "normalised" inputs; the rest of the
    protocol is new here.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> rng = stream(0, "example")
    >>> texts = prepare_texts({"en": (rng.normal(size=(50, 8)), rng.normal(size=50))}, 4, rng=rng)
    >>> texts.train["en"].x.shape, texts.test["en"].y.shape
    ((35, 4), (15,))
    """
    share = scalar("train_share", train_share, open_=True)
    if share >= 1:
        raise ValueError(f"train_share must be < 1, got {share:g}")
    checked = {name: _checked_source(name, source) for name, source in _items(sources)}
    d = count("d", d)
    _one_width(checked, d)
    orders = _orders([len(pool.y) for pool in checked.values()], generator(rng), aligned)
    pairs = zip(checked.items(), orders, strict=True)
    halves = {name: _split(pool, order, share) for (name, pool), order in pairs}
    centred = {name: _centre(name, *half) for name, half in halves.items()}
    axes = _components([train.x for train, _ in centred.values()], d)
    ready = {name: tuple(_project(p, axes) for p in pair) for name, pair in centred.items()}
    return Texts(*({name: pair[part] for name, pair in ready.items()} for part in (0, 1)))


def _items(sources: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Iterable[tuple[str, Any]]:
    if not isinstance(sources, Mapping):
        got = type(sources).__name__
        raise TypeError(f"sources must map languages to (embeddings, labels), got {got}")
    return sources.items()


def _checked_source(name: str, source: tuple[ArrayLike, ArrayLike]) -> Pool:
    if not isinstance(source, Sequence) or len(source) < 2:
        raise TypeError(
            f"sources must map {name} to (embeddings, labels), got {type(source).__name__}"
        )
    embeddings, labels = source[:2]
    x = finite_array(f"embeddings of {name}", embeddings, ndim=2, single=True)
    y = finite_array(f"labels of {name}", labels, ndim=1)
    same_length(embeddings=x, labels=y)
    magnitude(f"largest embedding or label of {name}", float(max(np.abs(x).max(), np.abs(y).max())))
    return Pool(x, y)


def _one_width(pools: Mapping[str, Pool], d: int) -> None:
    widths = sorted({pool.x.shape[1] for pool in pools.values()})
    if len(widths) != 1:
        raise ValueError(f"sources must share one embedding, got widths {widths or 'of nothing'}")
    if d > widths[0]:
        raise ValueError(f"d must be at most the embedding's {widths[0]} dimensions, got {d}")


def _orders(
    sizes: Sequence[int], rng: np.random.Generator, aligned: bool
) -> list[NDArray[np.int64]]:
    """Return a random order of the rows of each source."""
    if not aligned:
        return [rng.permutation(size) for size in sizes]
    if len(set(sizes)) != 1:
        raise ValueError(f"aligned sources must have as many rows each, got {list(sizes)}")
    return [rng.permutation(sizes[0])] * len(sizes)


def _split(pool: Pool, order: NDArray[np.int64], share: float) -> tuple[Pool, Pool]:
    first, second = np.split(order, [round(share * len(order))])
    return Pool(pool.x[first], pool.y[first]), Pool(pool.x[second], pool.y[second])


def _centre(name: str, train: Pool, test: Pool) -> tuple[Pool, Pool]:
    """Return both parts around the mean of the first, labels in units of its deviation."""
    if min(len(train.y), len(test.y)) < 2:
        raise ValueError(f"{name} must have at least 2 texts in each part; give more texts")
    centre, mean, spread = train.x.mean(axis=0), train.y.mean(), train.y.std()
    if not spread > _FLAT * (1 + abs(mean)):
        raise ValueError(f"labels of {name} must vary, got {mean:g} for all pretraining texts")
    return (
        Pool(train.x - centre, (train.y - mean) / spread),
        Pool(test.x - centre, (test.y - mean) / spread),
    )


def _components(parts: Sequence[Floats], d: int) -> Floats:
    """Return the leading d directions (D, d) of equal numbers of vectors of every part."""
    fewest = min(len(part) for part in parts)
    rows = np.concatenate([part[:fewest] for part in parts]).astype(np.float64)
    return np.linalg.eigh(rows.T @ rows)[1][:, -d:]


def _project(pool: Pool, axes: Floats) -> Pool:
    x = pool.x @ axes
    length = np.linalg.norm(x, axis=1, keepdims=True)
    x *= np.sqrt(axes.shape[1]) / np.where(length > 0, length, 1)
    return Pool(x.astype(np.float32), pool.y)


@border
def with_label_noise(
    texts: Texts, language: str, deviation: float, *, rng: np.random.Generator
) -> Texts:
    """Return the texts with normal noise on one language's pretraining labels.

    Parameters
    ----------
    texts : Texts
    language : str
    deviation : float
        Standard deviation of the noise in units of the labels' own, >= 0.
    rng : numpy.random.Generator

    Returns
    -------
    Texts
        The test labels stay clean.

    Raises
    ------
    ValueError
        If the language is not there or the deviation is negative.
    """
    pool = _pool(_texts(texts).train, language)
    noise = magnitude("deviation", deviation) * generator(rng).standard_normal(len(pool.y))
    return texts._replace(train=texts.train | {language: Pool(pool.x, pool.y + noise)})


def _texts(texts: Texts) -> Texts:
    return instance("texts", texts, Texts, "make them with prepare_texts")


def _pool(pools: Mapping[str, Pool], language: str) -> Pool:
    if not isinstance(language, str) or language not in pools:
        raise ValueError(f"language must be one of {', '.join(pools)}, got {shown(language)}")
    return pools[language]


@border
def draw_contexts(
    pool: Pool,
    n_prompts: int,
    n_context: int,
    *,
    rng: np.random.Generator,
    sign_flip: bool = False,
    shuffle: bool = False,
    source: int = 0,
) -> Contexts:
    """Return prompts drawn from a finite pool of labelled texts.

    Parameters
    ----------
    pool : Pool
        At least ``n_context + 1`` texts.
    n_prompts, n_context : int
        Prompts, and labelled texts in each besides the query, >= 1.
    rng : numpy.random.Generator
        The same stream gives the same texts and signs whatever the two options.
    sign_flip : bool
        Multiply all labels of a prompt, the query's too, by one random sign.
    shuffle : bool
        Permute the labels of each context among its texts; the query keeps its own.
    source : int
        The number to mark the prompts with.

    Returns
    -------
    Contexts

    Raises
    ------
    ValueError
        If the pool is too small for one prompt or a number is out of range.

    Notes
    -----
    The texts of a prompt are distinct; different prompts share texts. With `sign_flip` nothing in
    the weights alone can know the sign of the task: it must be read from the context.

    References
    ----------
    The paper's prompts are texts of one language, Demir and Dogan 2025; both options are new here.
    """
    parts = []
    for x, y in _prompts(pool, n_prompts, n_context, rng, sign_flip=sign_flip):
        context = rng.permuted(y[:, 1:], axis=1) if shuffle else y[:, 1:]
        parts.append(summarise(x[:, 1:], context, x[:, 0], y[:, 0], source=source))
    return join(parts)


def _prompts(
    pool: Pool, n_prompts: int, n_context: int, rng: np.random.Generator, *, sign_flip: bool
) -> Iterator[tuple[Floats, Floats]]:
    """Yield inputs (m, n_context + 1, d) and labels of blocks of prompts, the query first."""
    pool = _checked_pool(pool)
    n_prompts, size = count("n_prompts", n_prompts), count("n_context", n_context) + 1
    if size > len(pool.y):
        raise ValueError(
            f"n_context must be < {len(pool.y)}, the texts of the pool, got {size - 1}"
        )
    chosen = _distinct(n_prompts, size, len(pool.y), generator(rng))
    signs = rng.choice([-1.0, 1.0], size=n_prompts) if sign_flip else np.ones(n_prompts)
    for start in range(0, n_prompts, _BLOCK):
        rows = chosen[start : start + _BLOCK]
        labels = pool.y[rows] * signs[start : start + _BLOCK, None]
        yield pool.x[rows], labels.astype(pool.x.dtype)


def _checked_pool(pool: Pool) -> Pool:
    """Return a pool if it has one finite label per finite row."""
    instance("pool", pool, Pool, "take it from prepare_texts")
    x = finite_array("x", pool.x, ndim=2, single=True)
    y = finite_array("y", pool.y, ndim=1, single=True)
    same_length(x=x, y=y)
    return Pool(x, y)


def _distinct(n_rows: int, size: int, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return rows of distinct numbers below n in random order, by Floyd's algorithm."""
    chosen = np.empty((n_rows, size), dtype=np.int64)
    for column, last in enumerate(range(n - size, n)):
        pick = rng.integers(last, size=n_rows, endpoint=True)
        taken = (chosen[:, :column] == pick[:, None]).any(axis=1)
        chosen[:, column] = np.where(taken, last, pick)
    return rng.permuted(chosen, axis=1)


@border
def context_ridge_errors(
    pool: Pool,
    n_prompts: int,
    n_context: int,
    *,
    rng: np.random.Generator,
    penalties: ArrayLike = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0),
) -> Floats:
    """Return the errors of ridge regression on each context alone, without any pretraining.

    Parameters
    ----------
    pool : Pool
    n_prompts, n_context : int
        Prompts to average over and labelled texts in each, >= 1.
    rng : numpy.random.Generator
    penalties : (m,) array_like
        Ridges of ``sum (y - w x)^2 + penalty |w|^2``, > 0.

    Returns
    -------
    (m,) ndarray
        Mean squared errors over the mean squared label; their minimum flatters the method, because
        it is chosen on the test prompts.

    Raises
    ------
    ValueError
        If the pool is too small or a penalty is not positive.

    References
    ----------
    New here: what the context says by itself.
    """
    ridges = finite_array("penalties", penalties, ndim=1)
    if (ridges <= 0).any():
        raise ValueError(f"penalties must be > 0, got {ridges.min():g}")
    missed, total = np.zeros(len(ridges)), 0.0
    for x, y in _prompts(pool, n_prompts, n_context, rng, sign_flip=False):
        answers = _context_answers(x.astype(np.float64), y, ridges)
        missed += ((answers - y[:, 0]) ** 2).sum(axis=1)
        total += float((y[:, 0].astype(np.float64) ** 2).sum())
    return missed / total


def _context_answers(x: Floats, y: Floats, ridges: Floats) -> Floats:
    """Return the answers (n_ridges, m) to the first text from the others."""
    gram = x[:, 1:] @ x.transpose(0, 2, 1)  # (m, l, l + 1), the query first
    values, vectors = np.linalg.eigh(gram[:, :, 1:])
    label = np.einsum("mij,mi->mj", vectors, y[:, 1:])
    query = np.einsum("mij,mi->mj", vectors, gram[:, :, 0])
    return np.stack([(label * query / (values + r)).sum(axis=1) for r in ridges])


class SourceStatistics(NamedTuple):
    """What a language is as a source.

    Attributes
    ----------
    signal : float
        R^2 on the test pool of ridge regression on all pretraining texts.
    cosine : float
        Between its regression vector and the reference language's.
    effective_dim : float
        ``(sum lambda)^2 / sum lambda^2`` over the eigenvalues of the inputs' covariance.
    n_texts : int
        Pretraining texts.
    """

    signal: float
    cosine: float
    effective_dim: float
    n_texts: int


@border
def source_statistics(
    texts: Texts, reference: str, *, penalty: float = 0.01
) -> dict[str, SourceStatistics]:
    """Return signal, task direction and input dimension of every language.

    Parameters
    ----------
    texts : Texts
    reference : str
        The language whose regression vector the others are compared with.
    penalty : float
        Ridge, >= 0, in units of the inputs' mean variance.

    Returns
    -------
    dict of str to SourceStatistics

    Raises
    ------
    ValueError
        If the reference is not there or the penalty is negative.

    Notes
    -----
    These are the theory's quantities: a task covariance with a spike where the cosines are near
    one, label noise of share one minus signal, and the spectrum of the inputs.

    References
    ----------
    New here.
    """
    _pool(_texts(texts).train, reference)
    ridge = magnitude("penalty", penalty)
    tasks = {name: _task(pool, ridge) for name, pool in texts.train.items()}
    return {
        name: SourceStatistics(
            _signal(tasks[name], texts.test[name]),
            _cosine(tasks[name], tasks[reference]),
            _effective_dim(pool.x),
            len(pool.y),
        )
        for name, pool in texts.train.items()
    }


def _task(pool: Pool, ridge: float) -> Floats:
    x = pool.x.astype(np.float64)
    gram = x.T @ x / len(x) + ridge * np.eye(x.shape[1])
    return np.linalg.solve(gram, x.T @ pool.y / len(x))


def _signal(task: Floats, pool: Pool) -> float:
    return float(1 - np.mean((pool.y - pool.x @ task) ** 2) / np.mean(pool.y**2))


def _cosine(first: Floats, second: Floats) -> float:
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def _effective_dim(x: Floats) -> float:
    covariance = np.cov(x.T.astype(np.float64))
    return float(np.trace(covariance) ** 2 / np.sum(covariance**2))


@dataclass(frozen=True)
class Plan:
    """Sizes and protocol of an experiment.

    Parameters
    ----------
    n_context, n_prompts, width : int
        Labelled texts a prompt, prompts a stage, neurons; >= 1.
    n_validation, n_test : int
        Prompts that choose the ridge, and test prompts per language; >= 1.
    activation : str or callable
    sign_flip : bool
        Give every prompt a random sign, see `draw_contexts`.

    Raises
    ------
    TypeError, ValueError
        If a number is out of range or the activation is not known.
    """

    n_context: int
    n_prompts: int
    width: int
    _: KW_ONLY
    n_validation: int = 256
    n_test: int = 500
    activation: str | Function = "relu"
    sign_flip: bool = False

    def __post_init__(self) -> None:
        for name in ("n_context", "n_prompts", "width", "n_validation", "n_test"):
            keep(self, **{name: count(name, getattr(self, name))})
        keep(self, sign_flip=flag("sign_flip", self.sign_flip))
        activation(self.activation)


class Study(NamedTuple):
    """Everything random of an experiment: prompts of every stage and language, weights.

    Attributes
    ----------
    plan : Plan
    languages, tested : tuple of str
        Languages of pretraining and of the test.
    stage_one, stage_two, validation : MixturePools
        Prompts of the gradient step, of the second layer, and of the choice of the ridge; one
        pool per language, all from its pretraining texts.
    test, shuffled : Contexts
        Test prompts, those of a tested language marked by its place; the same prompts with
        shuffled context labels.
    head : Head
    """

    plan: Plan
    languages: tuple[str, ...]
    tested: tuple[str, ...]
    stage_one: MixturePools
    stage_two: MixturePools
    validation: MixturePools
    test: Contexts
    shuffled: Contexts
    head: Head


@border
def draw_study(
    texts: Texts,
    plan: Plan,
    *,
    languages: Sequence[str],
    tested: Sequence[str] | None = None,
    rng: np.random.Generator,
) -> Study:
    """Return the random part of an experiment, shared by all mixtures and models.

    Parameters
    ----------
    texts : Texts
    plan : Plan
    languages : sequence of str
        Sources of pretraining, in the order of the weights.
    tested : sequence of str, optional
        Languages of the test; those of pretraining by default.
    rng : numpy.random.Generator

    Returns
    -------
    Study

    Raises
    ------
    ValueError
        If a language is not there or its pool is too small for a prompt.
    """
    instance("plan", plan, Plan, "make one with Plan(n_context, n_prompts, width)")
    _texts(texts)
    names = _names("languages", languages)
    asked = names if tested is None else _names("tested", tested)
    train = [_pool(texts.train, name) for name in names]
    test = [_pool(texts.test, name) for name in asked]
    first, second, validation = (
        MixturePools(_pools(train, plan, n, generator(rng)), rng.uniform(size=n))
        for n in (plan.n_prompts, plan.n_prompts, plan.n_validation)
    )
    seeds = rng.integers(2**63, size=2)
    plain, mixed = (_tests(test, plan, seeds, shuffle=shuffle) for shuffle in (False, True))
    head = draw_head(train[0].x.shape[1], plan.width, rng=rng, single=True)
    return Study(plan, names, asked, first, second, validation, plain, mixed, head)


def _names(name: str, values: Sequence[str]) -> tuple[str, ...]:
    """Return names of languages: a sequence, not one string, of at least one."""
    if isinstance(values, str) or not np.iterable(values):
        got = type(values).__name__
        raise TypeError(f"{name} must be a sequence of names, got {got}; write a tuple")
    listed = tuple(values)
    if not listed:
        raise ValueError(f"{name} must hold at least one language, got none")
    return listed


def _pools(
    pools: Sequence[Pool], plan: Plan, n_prompts: int, rng: np.random.Generator
) -> tuple[Contexts, ...]:
    return tuple(
        draw_contexts(
            pool, n_prompts, plan.n_context, sign_flip=plan.sign_flip, source=number, rng=rng
        )
        for number, pool in enumerate(pools)
    )


def _tests(pools: Sequence[Pool], plan: Plan, seeds: Floats, *, shuffle: bool) -> Contexts:
    """Return the test prompts of all languages; the same texts with and without shuffling."""
    options: Any = {"sign_flip": plan.sign_flip, "shuffle": shuffle}
    streams = [np.random.default_rng([*seeds, number]) for number in range(len(pools))]
    return join(
        [
            draw_contexts(pool, plan.n_test, plan.n_context, source=number, rng=rng, **options)
            for number, (pool, rng) in enumerate(zip(pools, streams, strict=True))
        ]
    )


class Training(NamedTuple):
    """The prompts of one mixture."""

    stage_one: Contexts
    stage_two: Contexts
    validation: Contexts


def _training(study: Study, weights: ArrayLike, only: Sequence[str] | None) -> Training:
    instance("study", study, Study, "make one with draw_study")
    stages = (study.stage_one, study.stage_two, study.validation)
    mixed = [stage.mix(weights) for stage in stages]
    if only is not None:
        kept = [study.languages.index(_known(study, name)) for name in _names("only", only)]
        mixed = [part.take(np.isin(part.source, kept)) for part in mixed]
    if min(len(part) for part in mixed) < 2:
        raise ValueError("only must leave at least 2 prompts a stage; raise weights or n_prompts")
    return Training(*mixed)


def _known(study: Study, language: str) -> str:
    if language not in study.languages:
        listed = ", ".join(study.languages)
        raise ValueError(
            f"only must name languages of pretraining, {listed}; got {shown(language)}"
        )
    return language


@border
def linear_errors(
    study: Study,
    weights: ArrayLike,
    *,
    only: Sequence[str] | None = None,
    ridges: ArrayLike = RIDGES,
    shuffled: bool = False,
) -> dict[str, Floats]:
    """Return the errors of linear attention, per tested language.

    Parameters
    ----------
    study : Study
    weights : (n_languages,) array_like
        Shares of the languages in pretraining, summing to one.
    only : sequence of str, optional
        Drop the prompts of all other languages and put nothing in their place.
    ridges : (n_ridges,) array_like
        To choose from, in units of the features' mean square; > 0.
    shuffled : bool
        Test on prompts with shuffled context labels, too.

    Returns
    -------
    dict
        ``linear``: pretrained on the prompts of the second stage; ``linear_twice``: on those of
        both stages, as many as the network sees; with `shuffled` also both with ``_shuffled`` at
        the end. Arrays (n_tested,) of mean squared errors over the mean squared label, so 1 means
        no skill.

    Raises
    ------
    ValueError
        If weights or names do not fit, or a ridge is not positive.

    Notes
    -----
    The ridge of each model is the best on validation prompts, which come from the pretraining
    texts in the pretraining mixture.

    References
    ----------
    Demir and Dogan 2025, linear baseline; equal data, shuffling and the choice of the ridge are
    new here.
    """
    part = _training(study, weights, only)
    sets = {"linear": part.stage_two, "linear_twice": join([part.stage_one, part.stage_two])}
    tests = {"": study.test} | ({"_shuffled": study.shuffled} if shuffled else {})
    table = {}
    for name, train in sets.items():
        answer = _linear_answer(train, part.validation, ridges)
        for suffix, test in tests.items():
            table[name + suffix] = _scores(study, answer(test))
    return table


def _linear_answer(
    train: Contexts, validation: Contexts, ridges: ArrayLike
) -> Callable[[Contexts], Floats]:
    """Return the predictor with the ridge that validation prompts choose.

    One Cholesky factor per ridge: for a handful of ridges cheaper than one eigendecomposition.
    """
    penalties = positive_ridges(ridges) * norm_scale(train)
    paths = [linear_path(train, [penalty]) for penalty in penalties]
    answers = np.concatenate([path.predict(validation) for path in paths])
    best = paths[_best(answers, validation.y)]
    return lambda contexts: best.predict(contexts)[0]


def _best(answers: Floats, y: Floats) -> int:
    return int(np.argmin(((answers - y) ** 2).mean(axis=1)))


def _scores(study: Study, answers: Floats) -> Floats:
    """Return normalised errors per tested language."""
    y, source = study.test.y.astype(np.float64), study.test.source
    masks = [source == number for number in range(len(study.tested))]
    return np.array([np.mean((answers - y)[m] ** 2) / np.mean(y[m] ** 2) for m in masks])


@border
def pre_activations(
    study: Study,
    weights: ArrayLike,
    *,
    only: Sequence[str] | None = None,
    shuffled: bool = False,
) -> tuple[Training, list[PreActivations]]:
    """Return the prompts of a mixture and what the neurons receive before and after the step.

    Parameters
    ----------
    study : Study
    weights, only
        As in `linear_errors`.
    shuffled : bool
        Evaluate the test prompts with shuffled context labels, too.

    Returns
    -------
    training : Training
    moved : list of PreActivations
        Of the second stage, the validation prompts, the test prompts and, if asked for, the
        shuffled ones.

    Raises
    ------
    ValueError
        If weights or names do not fit.
    """
    part = _training(study, weights, only)
    others = [part.stage_two, part.validation, study.test, *([study.shuffled] * bool(shuffled))]
    scale = norm_scale(part.stage_one)
    return part, take_step(study.head, scale, part.stage_one, others, study.plan.activation)


@border
def network_errors(
    study: Study,
    weights: ArrayLike,
    *,
    step_sizes: ArrayLike,
    only: Sequence[str] | None = None,
    ridges: ArrayLike = RIDGES,
    shuffled: bool = False,
    feature_maps: Mapping[str, FeatureMap] | None = None,
) -> dict[str, Floats]:
    """Return the errors of the MLP head after one gradient step, per tested language.

    Parameters
    ----------
    study : Study
    weights, only, ridges
        As in `linear_errors`.
    step_sizes : (n_steps,) array_like
        eta in units of d^2; 0 is the random head.
    shuffled : bool
        Test on prompts with shuffled context labels, too.
    feature_maps : mapping of str to callable, optional
        Functions of pre-activations (n, width) and radius (n,) that the second layer reads; the
        default is the network itself, under the name ``network``.

    Returns
    -------
    dict
        By feature map, (n_steps, n_tested) mean squared errors over the mean squared label; with
        `shuffled` also under the name plus ``_shuffled``. ``spread`` and ``tail``, (n_steps,): the
        standard deviation of what the neurons receive from test prompts, and how often it is
        beyond 3 in absolute value.

    Raises
    ------
    ValueError
        If weights or names do not fit, or a ridge is not positive.

    Notes
    -----
    The first layer's step uses the first stage's prompts, the second layer those of the second;
    the ridge of each model is the best on validation prompts.

    References
    ----------
    Demir and Dogan 2025, model and training.
    """
    instance("study", study, Study, "make one with draw_study")
    steps = row("step_sizes", step_sizes) * study.test.d**2
    part, moved = pre_activations(study, weights, only=only, shuffled=shuffled)
    maps = checked_maps(feature_maps) or {"network": network_features(study.plan.activation)}
    table: dict[str, Any] = _spread(moved[2], steps)
    for name, feature in maps.items():
        rows = [_network_row(study, part, moved, feature, (step, ridges)) for step in steps]
        for suffix, errors in zip(("", "_shuffled"), zip(*rows, strict=True), strict=False):
            table[name + suffix] = np.array(errors)
    return table


def _network_row(
    study: Study,
    part: Training,
    moved: Sequence[PreActivations],
    feature: FeatureMap,
    choice: tuple[float, ArrayLike],
) -> list[Floats]:
    """Return the scores of one model on the test prompts, then on the shuffled ones."""
    step, ridges = choice
    seen, held, *tests = (feature(one.at(step), one.radius) for one in moved)
    path = readout_path(seen, part.stage_two.y, ridges)
    best = _best(path.predict(held), part.validation.y)
    chosen = ReadoutPath(path.weights[best : best + 1], path.intercepts[best : best + 1])
    return [_scores(study, chosen.predict(one)[0]) for one in tests]


def _spread(test: PreActivations, steps: Floats) -> dict[str, Floats]:
    received = [test.at(step) for step in steps]
    return {
        "spread": np.array([float(z.std(dtype=np.float64)) for z in received]),
        "tail": np.array([float(np.mean(np.abs(z) > _FAR)) for z in received]),
    }


@border
def error_rows(
    study: Study, errors: Mapping[str, Floats], step_sizes: ArrayLike = (), **labels: Any
) -> list[dict[str, Any]]:
    """Return errors as rows of a tidy table: one per model, step size and tested language.

    Parameters
    ----------
    study : Study
    errors : mapping of str to array
        As `linear_errors` and `network_errors` return them; ``spread`` and ``tail`` are left out.
    step_sizes : (n_steps,) array_like
        Those of the network, in units of d^2.
    **labels
        Further columns, the same in every row.

    Returns
    -------
    list of dict
        Columns ``model``, ``step`` (NaN where there is none), ``language`` and ``error``; for each
        model also a row for the language ``mean``, the unweighted mean.

    Raises
    ------
    ValueError
        If the number of step sizes does not fit.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> rng = stream(0, "example")
    >>> words = {name: (rng.normal(size=(60, 6)), rng.normal(size=60)) for name in ("en", "de")}
    >>> plan = Plan(4, 20, 8, n_validation=10, n_test=10)
    >>> texts = prepare_texts(words, 4, rng=rng)
    >>> study = draw_study(texts, plan, languages=("en", "de"), rng=rng)
    >>> rows = error_rows(study, linear_errors(study, [0.5, 0.5]), share=0.5)
    >>> [rows[2][key] for key in ("model", "language", "share")]
    ['linear', 'mean', 0.5]
    """
    names = (*instance("study", study, Study, "make one with draw_study").tested, "mean")
    rows, sizes = [], np.atleast_1d(real_array("step_sizes", step_sizes))
    for model, values in _tables(errors, len(names) - 1).items():
        steps = [np.nan] if values.ndim == 1 else sizes
        if len(steps) != len(np.atleast_2d(values)):
            raise ValueError(f"step_sizes must fit {model}, {len(values)}, got {len(steps)}")
        for step, line in zip(steps, np.atleast_2d(values), strict=True):
            head = {**labels, "model": model, "step": float(step)}
            cells = zip(names, [*line, line.mean()], strict=True)
            rows += [head | {"language": name, "error": float(value)} for name, value in cells]
    return rows


def _tables(errors: Mapping[str, Floats], n_tested: int) -> dict[str, Floats]:
    """Return the errors of the models, each (n_tested,) or (n_steps, n_tested)."""
    if not isinstance(errors, Mapping):
        raise TypeError(f"errors must map models to arrays, got {type(errors).__name__}")
    models = {name: values for name, values in errors.items() if name not in ("spread", "tail")}
    tables = {name: finite_array(f"errors of {name}", v, ndim=None) for name, v in models.items()}
    for name, table in tables.items():
        if table.ndim not in (1, 2) or table.shape[-1] != n_tested:
            raise ValueError(
                f"errors of {name} must have one column per tested language, {n_tested}, "
                f"got shape {table.shape}"
            )
    return tables
