"""The protocol on real sources: splits that hold, prompts from pools, models against loops."""

import numpy as np
import pytest

import iclkit.papers.data_mixing.texts as texts_module
from iclkit.hermite import activation
from iclkit.papers.data_mixing.head import features, first_gradient, norm_scale
from iclkit.papers.data_mixing.sources import join
from iclkit.papers.data_mixing.texts import (
    Plan,
    Pool,
    context_ridge_errors,
    draw_contexts,
    draw_study,
    error_rows,
    linear_errors,
    network_errors,
    pre_activations,
    prepare_texts,
    source_statistics,
    with_label_noise,
)
from iclkit.rng import stream
from tests.tolerances import FLOAT32, IDENTITY, SIGMAS

ONE_HOT = Pool(np.eye(8), np.array([0.5, -1.0, 1.5, -2.0, 2.5, -3.0, 3.5, 4.0]))


def embeddings(name, n=200, width=10, *, offset=0.0, noise=0.3, task=None):
    """Return a synthetic language: coloured inputs around an offset, labels linear plus noise."""
    rng = stream(0, "language", name)
    colour = 1.0 + np.arange(width)[::-1]
    x = rng.normal(size=(n, width)) * colour
    direction = np.eye(width)[0] if task is None else np.asarray(task, dtype=float)
    y = (x / colour) @ direction + noise * rng.normal(size=n)
    return x + offset, 5 + 2 * y


def texts_of(d=4, n=200, **languages):
    sources = {name: embeddings(name, n, **options) for name, options in languages.items()}
    return prepare_texts(sources, d, rng=stream(0, "split"))


@pytest.fixture(scope="module")
def texts():
    return texts_of(n=400, en={}, de={"noise": 1.0})


@pytest.fixture(scope="module")
def study(texts):
    plan = Plan(6, 40, 12, n_validation=30, n_test=50)
    return draw_study(texts, plan, languages=("de", "en"), rng=stream(0, "study"))


class TestPrepare:
    def test_every_text_is_in_one_part(self):
        x, y = embeddings("en", 100)
        y = np.arange(100.0)
        split = prepare_texts({"en": (x, y)}, 4, rng=stream(0, "split"))
        labels = np.concatenate([split.train["en"].y, split.test["en"].y])
        assert len(split.train["en"].y) == 70
        ranks = np.argsort(np.argsort(labels))
        assert np.array_equal(np.sort(ranks), np.arange(100))
        assert len(np.unique(labels)) == 100

    def test_labels_are_in_units_of_the_pretraining_part(self, texts):
        for pool in texts.train.values():
            assert abs(pool.y.mean()) < IDENTITY
            assert abs(pool.y.std() - 1) < IDENTITY
        assert abs(texts.test["en"].y.mean()) > 1e-6, "the test part must not enter"

    def test_inputs_have_one_length(self, texts):
        for pool in (*texts.train.values(), *texts.test.values()):
            assert np.allclose(np.linalg.norm(pool.x, axis=1), 2.0, atol=FLOAT32)

    def test_components_are_those_of_the_centred_pretraining_parts(self):
        x, y = embeddings("en", 100, offset=50.0)
        pools = prepare_texts({"en": (x, y)}, 3, rng=stream(0, "split"))
        order = stream(0, "split").permutation(100)
        train, test = x[order[:70]], x[order[70:]]
        axes = np.linalg.svd(train - train.mean(axis=0), full_matrices=False)[2][:3].T
        for part, pool in ((train, pools.train["en"]), (test, pools.test["en"])):
            z = (part - train.mean(axis=0)) @ axes
            z *= np.sqrt(3) / np.linalg.norm(z, axis=1, keepdims=True)
            assert np.allclose(z @ z.T, pool.x @ pool.x.T, atol=FLOAT32)

    def test_each_language_has_its_own_centre(self):
        x, y = embeddings("en", 100)
        near = prepare_texts({"a": (x, y), "b": (x, y)}, 4, rng=stream(0, "split"))
        far = prepare_texts({"a": (x, y), "b": (x + 100.0, y)}, 4, rng=stream(0, "split"))
        for part in (0, 1):
            first, second = near[part]["b"].x, far[part]["b"].x
            assert np.allclose(first @ first.T, second @ second.T, atol=10 * FLOAT32)

    def test_a_long_language_does_not_outweigh_a_short_one(self):
        short, long = np.zeros((20, 4)), np.zeros((2000, 4))
        short[:, 0], long[:, 1] = np.tile([3.0, -3.0], 10), np.tile([2.0, -2.0], 1000)
        labels = stream(0, "labels").normal(size=2000)
        sources = {"short": (short, labels[:20]), "long": (long, labels)}
        pools = prepare_texts(sources, 1, rng=stream(1, "split"))
        assert np.allclose(np.abs(pools.train["short"].x), 1.0)

    def test_aligned_sources_are_split_alike(self):
        x, y = embeddings("en", 60)
        y = np.arange(60.0)
        sources = {"a": (x, y), "b": (-x, y)}
        alike = prepare_texts(sources, 4, rng=stream(0, "split"), aligned=True)
        apart = prepare_texts(sources, 4, rng=stream(0, "split"))
        assert np.array_equal(alike.test["a"].y, alike.test["b"].y)
        assert not np.array_equal(apart.test["a"].y, apart.test["b"].y)

    def test_whole_numbers_work(self):
        x = stream(0, "whole").integers(0, 9, size=(40, 5))
        pools = prepare_texts({"a": (x, np.arange(40))}, 2, rng=stream(0, "split"))
        assert pools.train["a"].x.shape == (28, 2)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"d": 11}, "d must be at most the embedding's 10 dimensions, got 11"),
            ({"d": 0}, "d must be >= 1"),
            ({"train_share": 1.0}, "train_share must be < 1, got 1"),
            ({"train_share": 0.0}, "train_share must be finite and > 0"),
            ({"sources": {}}, "sources must share one embedding, got widths of nothing"),
            ({"sources": {"a": (np.eye(3), [1.0, 2.0])}}, "numbers of rows must agree"),
            ({"sources": {"a": ([[np.nan]], [1.0])}}, "embeddings of a must be finite"),
            ({"sources": {"a": (np.eye(10), np.ones(10))}}, "labels of a must vary, got 1"),
            ({"sources": {"a": (np.eye(10)[:3], [1, 2, 3])}}, "a must have at least 2 texts"),
        ],
    )
    def test_mistakes_have_one_line(self, change, message):
        options = {"sources": {"en": embeddings("en")}, "d": 4} | change
        sources, d = options.pop("sources"), options.pop("d")
        with pytest.raises(ValueError, match=message):
            prepare_texts(sources, d, rng=stream(0, "split"), **options)

    def test_widths_and_lengths_must_fit(self):
        sources = {"a": embeddings("a"), "b": embeddings("b", width=9)}
        with pytest.raises(ValueError, match=r"one embedding, got widths \[9, 10\]"):
            prepare_texts(sources, 4, rng=stream(0, "split"))
        sources = {"a": embeddings("a"), "b": embeddings("b", n=90)}
        with pytest.raises(ValueError, match="aligned sources must have as many rows"):
            prepare_texts(sources, 4, rng=stream(0, "split"), aligned=True)


class TestNoise:
    def test_only_one_language_is_disturbed_and_only_in_pretraining(self, texts):
        noisy = with_label_noise(texts, "en", 2.0, rng=stream(0, "noise"))
        added = noisy.train["en"].y - texts.train["en"].y
        n = len(added)
        assert abs(added.mean()) < SIGMAS * 2 / n**0.5
        assert abs(added.var() / 4 - 1) < SIGMAS * (2 / n) ** 0.5
        assert noisy.train["de"] is texts.train["de"]
        assert noisy.test is texts.test

    def test_mistakes(self, texts):
        with pytest.raises(ValueError, match="language must be one of en, de, got 'fr'"):
            with_label_noise(texts, "fr", 1.0, rng=stream(0, "noise"))
        with pytest.raises(ValueError, match="deviation must be finite and >= 0"):
            with_label_noise(texts, "en", -1.0, rng=stream(0, "noise"))


class TestContexts:
    def test_a_prompt_holds_every_text_at_most_once(self):
        drawn = draw_contexts(ONE_HOT, 50, 7, rng=stream(0, "contexts"))
        query = drawn.x.argmax(axis=1)
        assert np.array_equal(drawn.y, ONE_HOT.y[query])
        for row, b in zip(query, drawn.b, strict=True):
            rest = np.where(np.arange(8) == row, 0, ONE_HOT.y)
            assert np.allclose(b, [*rest / 7, np.mean(np.delete(ONE_HOT.y, row) ** 2)])

    def test_every_text_is_as_likely_as_any_other(self):
        n = 8000
        drawn = draw_contexts(ONE_HOT, n, 3, rng=stream(0, "uniform"))
        query = np.bincount(drawn.x.argmax(axis=1), minlength=8) / n
        member = (drawn.b[:, :8] != 0).mean(axis=0)
        for share, expected in ((query, 1 / 8), (member, 3 / 8)):
            error = np.sqrt(expected * (1 - expected) / n)
            assert np.max(np.abs(share - expected)) < SIGMAS * error

    def test_a_sign_turns_a_whole_prompt(self):
        plain = draw_contexts(ONE_HOT, 200, 4, rng=stream(0, "signs"))
        turned = draw_contexts(ONE_HOT, 200, 4, rng=stream(0, "signs"), sign_flip=True)
        sign = turned.y / plain.y
        assert set(np.unique(sign)) == {-1.0, 1.0}
        assert abs(sign.mean()) < SIGMAS / 200**0.5
        assert np.array_equal(turned.b[:, :8], sign[:, None] * plain.b[:, :8])
        assert np.array_equal(turned.b[:, 8], plain.b[:, 8])

    def test_shuffling_keeps_texts_and_labels_and_parts_them(self):
        plain = draw_contexts(ONE_HOT, 600, 5, rng=stream(0, "shuffle"))
        mixed = draw_contexts(ONE_HOT, 600, 5, rng=stream(0, "shuffle"), shuffle=True)
        assert np.array_equal(plain.x, mixed.x)
        assert np.array_equal(plain.y, mixed.y)
        assert np.allclose(plain.b[:, 8], mixed.b[:, 8])
        assert np.array_equal(plain.b[:, :8] != 0, mixed.b[:, :8] != 0)
        assert np.allclose(np.sort(plain.b[:, :8]), np.sort(mixed.b[:, :8]))
        stayed = np.mean(plain.b[:, :8][plain.b[:, :8] != 0] == mixed.b[:, :8][mixed.b[:, :8] != 0])
        assert abs(stayed - 1 / 5) < 0.05

    @pytest.mark.parametrize(
        ("n_prompts", "n_context", "message"),
        [
            (1, 8, "n_context must be < 8, the texts of the pool, got 8"),
            (1, 0, "n_context must be >= 1"),
            (0, 3, "n_prompts must be >= 1"),
        ],
    )
    def test_mistakes(self, n_prompts, n_context, message):
        with pytest.raises(ValueError, match=message):
            draw_contexts(ONE_HOT, n_prompts, n_context, rng=stream(0, "mistakes"))

    def test_a_generator_is_needed(self):
        with pytest.raises(TypeError, match="rng must be a numpy"):
            draw_contexts(ONE_HOT, 1, 3, rng=0)


class TestContextRidge:
    def test_equals_primal_ridge_prompt_by_prompt(self):
        rng = stream(0, "pool")
        x = rng.normal(size=(30, 3))
        pool = Pool(x, x @ [1.0, 2.0, 0.0] + 0.1 * rng.normal(size=30))
        found = context_ridge_errors(pool, 9, 5, rng=stream(0, "ridge"), penalties=[0.5, 5.0])
        missed, total = np.zeros(2), 0.0
        for chosen in prompts_of(pool, 9, 5):
            own, y = x[chosen], pool.y[chosen]
            total += y[0] ** 2
            for i, penalty in enumerate((0.5, 5.0)):
                gram = own[1:].T @ own[1:] + penalty * np.eye(3)
                missed[i] += (own[0] @ np.linalg.solve(gram, own[1:].T @ y[1:]) - y[0]) ** 2
        assert np.allclose(found, missed / total, rtol=IDENTITY)

    def test_a_penalty_must_be_positive(self):
        with pytest.raises(ValueError, match="penalties must be > 0, got 0"):
            context_ridge_errors(ONE_HOT, 1, 3, rng=stream(0, "ridge"), penalties=[0.0])


def prompts_of(pool, n_prompts, n_context):
    """Return the texts of the prompts that the stream of the test above draws, query first."""
    numbered = Pool(pool.x, np.arange(len(pool.y), dtype=float))
    blocks = texts_module._prompts(
        numbered, n_prompts, n_context, stream(0, "ridge"), sign_flip=False
    )
    return [row for _, y in blocks for row in np.rint(y).astype(int)]


class TestStatistics:
    def test_signal_direction_and_dimension(self):
        first, second = np.eye(10)[0], (np.eye(10)[0] + np.eye(10)[1]) / 2**0.5
        texts = texts_of(
            10, 4000, a={"task": first, "noise": 0.5}, b={"task": second, "noise": 2.0}
        )
        found = source_statistics(texts, "a", penalty=1e-6)
        assert found["a"].cosine == pytest.approx(1, abs=IDENTITY)
        assert found["a"].n_texts == 2800
        assert found["a"].signal > 2 * found["b"].signal > 0
        assert 0.5 < found["b"].cosine < 0.95, "45 degrees, but for unequal input scales"

    def test_effective_dimension_of_equal_and_of_one_direction(self):
        rng = stream(0, "isotropic")
        x = rng.normal(size=(4000, 6))
        flat = np.column_stack([rng.choice([-1.0, 1.0], size=4000), 1e-3 * x[:, 1:]])
        y = rng.normal(size=4000)
        texts = prepare_texts({"iso": (x, y), "flat": (flat, y)}, 6, rng=stream(0, "split"))
        found = source_statistics(texts, "iso")
        assert 5.9 < found["iso"].effective_dim <= 6
        assert 1 <= found["flat"].effective_dim < 1.01
        assert abs(found["iso"].signal) < 0.02

    def test_mistakes(self, texts):
        with pytest.raises(ValueError, match="language must be one of en, de"):
            source_statistics(texts, "fr")
        with pytest.raises(ValueError, match="penalty must be finite and >= 0"):
            source_statistics(texts, "en", penalty=-1)


class TestStudy:
    def test_pretraining_and_test_prompts_share_no_text(self, texts, study):
        train = {row.tobytes() for pool in texts.train.values() for row in pool.x}
        test = {row.tobytes() for pool in texts.test.values() for row in pool.x}
        assert not train & test
        stages = (study.stage_one, study.stage_two, study.validation)
        assert {row.tobytes() for stage in stages for p in stage.pools for row in p.x} <= train
        assert {row.tobytes() for row in study.test.x} <= test

    def test_stages_are_drawn_apart(self, study):
        first, second = (stage.pools[0].y for stage in (study.stage_one, study.stage_two))
        assert not np.array_equal(first, second)

    def test_shuffled_test_prompts_are_the_same_prompts(self, study):
        assert np.array_equal(study.test.x, study.shuffled.x)
        assert np.array_equal(study.test.y, study.shuffled.y)
        assert not np.allclose(study.test.b, study.shuffled.b)

    def test_one_stream_one_study(self, texts, study):
        again = draw_study(texts, study.plan, languages=("de", "en"), rng=stream(0, "study"))
        other = draw_study(texts, study.plan, languages=("de", "en"), rng=stream(1, "study"))
        assert np.array_equal(again.test.b, study.test.b)
        assert np.array_equal(again.head.hidden, study.head.hidden)
        assert not np.array_equal(other.test.b, study.test.b)

    def test_tests_may_be_in_other_languages(self, texts):
        plan = Plan(6, 20, 8, n_validation=10, n_test=10)
        study = draw_study(
            texts, plan, languages=("de",), tested=("en", "de"), rng=stream(0, "other")
        )
        assert linear_errors(study, [1.0])["linear"].shape == (2,)
        assert study.test.source.tolist() == [0] * 10 + [1] * 10

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"n_context": 0}, "n_context must be >= 1"),
            ({"n_test": 0}, "n_test must be >= 1"),
            ({"activation": "step"}, "step"),
        ],
    )
    def test_plans_are_checked(self, change, message):
        with pytest.raises(ValueError, match=message):
            Plan(**({"n_context": 3, "n_prompts": 4, "width": 5} | change))

    def test_a_missing_language_is_named(self, texts):
        with pytest.raises(ValueError, match="language must be one of en, de, got 'fr'"):
            draw_study(texts, Plan(6, 20, 8), languages=("fr",), rng=stream(0, "missing"))


def normalised(study, answers):
    """Return the error of answers to the test prompts, language by language."""
    return [
        np.sum((answers - study.test.y)[study.test.source == s] ** 2)
        / np.sum(study.test.y[study.test.source == s].astype(float) ** 2)
        for s in range(len(study.tested))
    ]


class TestLinear:
    @pytest.mark.parametrize(("name", "twice"), [("linear", False), ("linear_twice", True)])
    @pytest.mark.parametrize("suffix", ["", "_shuffled"])
    def test_equals_primal_ridge_with_the_full_feature(self, study, name, twice, suffix):
        weights = [0.3, 0.7]
        train = study.stage_two.mix(weights)
        if twice:
            train = join([study.stage_one.mix(weights), train])
        H, y = features(train).astype(float), train.y.astype(float)
        penalty = 0.01 * norm_scale(train)
        gamma = np.linalg.solve(H.T @ H + len(y) * penalty * np.eye(H.shape[1]), H.T @ y)
        answers = features(study.shuffled if suffix else study.test) @ gamma
        found = linear_errors(study, weights, ridges=[0.01], shuffled=True)[name + suffix]
        assert np.allclose(found, normalised(study, answers), rtol=FLOAT32)

    def test_the_ridge_is_that_of_the_smallest_validation_error(self, study):
        ridges = np.array([1e-6, 1e-2, 1e3])
        train, held = study.stage_two.mix([0.5, 0.5]), study.validation.mix([0.5, 0.5])
        H, y = features(train).astype(float), train.y.astype(float)
        errors = []
        for ridge in ridges * norm_scale(train):
            gamma = np.linalg.solve(H.T @ H + len(y) * ridge * np.eye(H.shape[1]), H.T @ y)
            errors.append(np.mean((features(held) @ gamma - held.y) ** 2))
        best = ridges[np.argmin(errors)]
        chosen = linear_errors(study, [0.5, 0.5], ridges=ridges)["linear"]
        alone = linear_errors(study, [0.5, 0.5], ridges=[best])["linear"]
        assert np.array_equal(chosen, alone)
        assert best == 1e-2, "neither end, or the test shows nothing"

    def test_only_drops_prompts_and_puts_nothing_in_their_place(self, study):
        part, _ = pre_activations(study, [0.5, 0.5], only=["en"])
        whole = study.stage_two.mix([0.5, 0.5])
        assert np.array_equal(part.stage_two.y, whole.y[whole.source == 1])
        assert len(part.stage_two) < len(whole)

    def test_mistakes(self, study):
        with pytest.raises(ValueError, match="only must name languages of pretraining, de, en"):
            linear_errors(study, [0.5, 0.5], only=["fr"])
        with pytest.raises(ValueError, match="only must leave at least 2 prompts a stage"):
            linear_errors(study, [1.0, 0.0], only=["en"])
        with pytest.raises(ValueError, match="weights must have one entry per source"):
            linear_errors(study, [1.0])
        with pytest.raises(ValueError, match="ridges must be > 0"):
            linear_errors(study, [0.5, 0.5], ridges=[0.0])


class TestNetwork:
    @pytest.mark.parametrize("step", [0.0, 2.0])
    @pytest.mark.parametrize("shuffled", [False, True])
    def test_equals_the_explicit_computation(self, study, step, shuffled):
        weights = [0.4, 0.6]
        first, second = study.stage_one.mix(weights), study.stage_two.mix(weights)
        sigma = activation("relu")
        hidden = study.head.hidden.astype(float) / np.sqrt(norm_scale(first))
        G = first_gradient(hidden, study.head.readout.astype(float), first, "relu")
        moved = hidden + step * 16 * G  # d^2 = 16
        R = sigma(features(second) @ moved.T) / np.sqrt(12)
        w = np.linalg.solve(R.T @ R + 40 * 0.01 * np.eye(12), R.T @ second.y)
        tests = study.shuffled if shuffled else study.test
        answers = sigma(features(tests) @ moved.T) @ w / np.sqrt(12)
        found = network_errors(study, weights, step_sizes=[0.0, step], ridges=[0.01], shuffled=True)
        row = found["network_shuffled" if shuffled else "network"][1]
        assert np.allclose(row, normalised(study, answers), rtol=10 * FLOAT32)
        z = features(study.test) @ moved.T
        assert found["spread"][1] == pytest.approx(z.std(), rel=FLOAT32)
        assert found["tail"][1] == pytest.approx(np.mean(np.abs(z) > 3), abs=2e-3)

    def test_the_ridge_is_that_of_the_smallest_validation_error(self, study):
        ridges = [1e-7, 1e-2, 1e4]
        alone = [
            network_errors(study, [0.5, 0.5], step_sizes=[1.0], ridges=[r])["network"]
            for r in ridges
        ]
        chosen = network_errors(study, [0.5, 0.5], step_sizes=[1.0], ridges=ridges)["network"]
        assert np.allclose(chosen, alone[1], rtol=1e-3)
        assert not np.allclose(alone[0], alone[1], rtol=1e-2)

    def test_a_feature_map_takes_the_place_of_the_activation(self, study):
        maps = {"relu": lambda z, _: np.maximum(z, 0), "odd": lambda z, radius: z * radius[:, None]}
        found = network_errors(study, [0.5, 0.5], step_sizes=[0.0, 1.0], feature_maps=maps)
        network = network_errors(study, [0.5, 0.5], step_sizes=[0.0, 1.0])["network"]
        assert np.array_equal(found["relu"], network)
        assert not np.allclose(found["odd"], network)
        assert "network" not in found

    def test_a_single_step_size_may_be_a_number(self, study):
        assert network_errors(study, [0.5, 0.5], step_sizes=1.0)["network"].shape == (1, 2)


def test_a_random_sign_forces_the_model_to_read_the_context():
    """Without the sign the weights hold the task, and shuffled labels cost little."""
    sources = {"en": embeddings("en", 1500, noise=0.1)}
    texts = prepare_texts(sources, 6, rng=stream(0, "split"))
    found = {}
    for flip in (False, True):
        plan = Plan(24, 300, 80, n_validation=100, n_test=500, sign_flip=flip)
        study = draw_study(texts, plan, languages=["en"], rng=stream(0, "flip", flip))
        errors = network_errors(study, [1.0], step_sizes=[1.0], shuffled=True)
        found[flip] = errors["network"][0, 0], errors["network_shuffled"][0, 0]
    (plain, plain_shuffled), (turned, turned_shuffled) = found[False], found[True]
    assert plain < 0.5
    assert plain_shuffled < 0.8
    assert turned < 0.6
    assert turned_shuffled > 0.98


def test_rows_of_a_table(study):
    linear = linear_errors(study, [0.5, 0.5])
    network = network_errors(study, [0.5, 0.5], step_sizes=[0.0, 1.0])
    rows = error_rows(study, linear | network, [0.0, 1.0], seed=7)
    assert len(rows) == 2 * 3 + 2 * 3
    assert {row["language"] for row in rows} == {"de", "en", "mean"}
    last = [row for row in rows if row["model"] == "network" and row["step"] == 1.0]
    assert [row["error"] for row in last[:2]] == network["network"][1].tolist()
    assert last[2]["error"] == pytest.approx(network["network"][1].mean())
    assert all(row["seed"] == 7 for row in rows)
    assert all(np.isnan(row["step"]) for row in rows if row["model"] == "linear")
    with pytest.raises(ValueError, match="step_sizes must fit network, 2, got 1"):
        error_rows(study, network, [0.0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda _: prepare_texts({"a": 5}, 2, rng=stream(0, "x")), TypeError, "must map a to"),
        (lambda _: prepare_texts([1], 2, rng=stream(0, "x")), TypeError, "must map languages"),
        (lambda _: draw_study(None, None, languages=["en"], rng=None), TypeError, "plan must be"),
        (lambda s: draw_study(None, s.plan, languages="en", rng=None), TypeError, "texts must be"),
        (lambda _: linear_errors(None, [1.0]), TypeError, "study must be a Study, got NoneType"),
        (lambda _: network_errors(5, [1.0], step_sizes=[0]), TypeError, "study must be a Study"),
        (lambda s: linear_errors(s, [0.5, 0.5], only="en"), TypeError, "only must be a sequence"),
        (lambda s: linear_errors(s, [0.5, 0.5], only=()), ValueError, "only must hold at least"),
        (lambda s: error_rows(s, None), TypeError, "errors must map models to arrays"),
        (lambda s: error_rows(s, {"a": [1.0]}), ValueError, "one column per tested language, 2"),
    ],
)
def test_what_is_something_else_gets_one_clear_line(study, call, error, message):
    with pytest.raises(error, match=message) as caught:
        call(study)
    assert "\n" not in str(caught.value)
