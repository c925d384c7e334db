from dataclasses import replace

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from dpl.head_selection import FOLDS, UNTESTED, calibrated_loss, choose, choose_among, folds, held_out_logits
from dpl.heads import TEXT, Head, HeadSettings, Shots, class_weights, fit_residual, objective

SCALE, CLASSES, DIM = 20.0, 4, 12


def made_shots(each: int = 8, noise: float = 0.3, known: bool = True, seed: int = 0) -> Shots:
    """Features around a direction per class; the texts point there too, or anywhere if the names are not `known`."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.nn.functional.normalize(torch.randn(CLASSES, DIM, generator=draw, dtype=torch.float64), dim=1)
    labels = torch.arange(CLASSES).repeat_interleave(each)
    features = centres[labels] + noise * torch.randn(len(labels), DIM, generator=draw, dtype=torch.float64)
    features = torch.nn.functional.normalize(features, dim=1)
    texts = centres if known else torch.nn.functional.normalize(torch.randn(CLASSES, DIM, generator=draw).double(), dim=1)
    return Shots(SCALE * features @ texts.T, features, labels, SCALE)


def uneven() -> Shots:
    shots = made_shots()
    return shots.select(torch.tensor([label != 2 or place % 8 < 3 for place, label in enumerate(shots.labels.tolist())]))


def test_the_gradient_is_that_of_automatic_differentiation():
    shots, settings = uneven(), HeadSettings(0.25, 2e-4)
    draw = torch.Generator().manual_seed(1)
    residual = torch.randn(CLASSES, DIM, generator=draw).double().requires_grad_()
    loss, gradient = objective(residual, shots, settings)
    (theirs,) = torch.autograd.grad(loss, residual)
    torch.testing.assert_close(gradient, theirs, rtol=1e-10, atol=1e-12)
    plain = torch.nn.functional.cross_entropy(
        0.25 * SCALE * (shots.text_logits / SCALE + shots.image_features @ residual.T), shots.labels, weight=1 / counts(shots)
    )
    torch.testing.assert_close(loss, plain + 2e-4 * ((SCALE * residual) ** 2).sum())


def counts(shots: Shots) -> torch.Tensor:
    return torch.bincount(shots.labels, minlength=CLASSES).double()


def test_without_texts_the_residual_is_logistic_regression():
    shots = made_shots()
    shots = replace(shots, text_logits=torch.zeros_like(shots.text_logits))
    decay = 1e-4
    residual = fit_residual(shots, HeadSettings(1.0, decay))
    theirs = LogisticRegression(C=1 / (2 * decay * len(shots.labels)), fit_intercept=False, tol=1e-10, max_iter=5000)
    theirs.fit(shots.image_features.numpy(), shots.labels.numpy())
    torch.testing.assert_close(SCALE * residual, torch.from_numpy(theirs.coef_), atol=2e-3, rtol=0)


def test_the_solution_is_stationary_and_does_not_depend_on_the_start():
    shots, settings = uneven(), HeadSettings(1.0, 2e-5)
    residual = fit_residual(shots, settings)
    assert objective(residual, shots, settings)[1].abs().max() < 1e-4
    start = torch.randn(CLASSES, DIM, generator=torch.Generator().manual_seed(3)).double()
    torch.testing.assert_close(residual, fit_residual(shots, settings, start), atol=2e-3, rtol=0)


def test_a_strong_penalty_leaves_the_texts():
    shots = made_shots(known=False)
    assert fit_residual(shots, HeadSettings(1.0, 1e6)).abs().max() < 1e-4


def test_every_class_counts_the_same():
    shots = uneven()
    weights = class_weights(shots.labels)
    torch.testing.assert_close(torch.bincount(shots.labels, weights), torch.full((CLASSES,), 0.25, dtype=torch.float64))


def test_folds_are_stratified_and_the_only_image_of_a_class_is_in_none():
    labels = torch.tensor([0] * 7 + [1] * 2 + [2])
    assigned = folds(labels, seed=1)
    assert sorted(torch.bincount(assigned[:7], minlength=FOLDS).tolist()) == [1, 1, 1, 2, 2]
    assert assigned[7] != assigned[8] and assigned[9] == -1
    assert torch.equal(assigned, folds(labels, seed=1)) and not torch.equal(assigned, folds(labels, seed=2))


def test_an_image_held_out_has_no_say_in_its_own_logits():
    shots = made_shots(known=False)
    assigned, settings = folds(shots.labels, 1), HeadSettings(1.0, 1e-4)
    everyone = torch.ones(len(shots.labels), dtype=torch.bool)
    before = held_out_logits(shots, assigned, everyone, [settings])[settings]
    changed = replace(shots, labels=shots.labels.clone())
    changed.labels[5] = (changed.labels[5] + 1) % CLASSES
    after = held_out_logits(changed, assigned, everyone, [settings])[settings]
    same = assigned == assigned[5]
    assert torch.equal(before[same], after[same]) and not torch.equal(before, after)
    only = held_out_logits(shots, assigned, same, [settings])[settings]
    assert torch.equal(only, before[same])


def test_names_that_mean_nothing_get_a_residual_and_good_ones_keep_the_texts():
    everyone = torch.ones(CLASSES * 8, dtype=torch.bool)
    unknown = choose(made_shots(known=False), everyone, "auto", seed=1)
    assert unknown.settings != TEXT and unknown.loss < unknown.text_loss and unknown.held_out == CLASSES * 8
    # Features that say nothing beyond the texts: the text logits carry the class, the features are noise.
    noise = made_shots(noise=50.0)
    knows = replace(noise, text_logits=5 * torch.nn.functional.one_hot(noise.labels, CLASSES).double())
    assert choose(knows, everyone, "auto", seed=1).settings == TEXT
    assert choose(knows, everyone, "residual", seed=1).settings != TEXT


def test_of_several_models_the_one_of_the_lowest_loss_gets_the_head():
    everyone = torch.ones(CLASSES * 8, dtype=torch.bool)
    noise, clear = made_shots(noise=50.0, known=False), made_shots(known=False)
    index, choice, head = choose_among([noise, clear], everyone, "residual", seed=1)
    alone = [choose(shots, everyone, "residual", seed=1) for shots in (noise, clear)]
    assert index == 1 and choice == replace(alone[1], text_loss=alone[0].text_loss)
    assert head is not None and head.residual.dtype == torch.float32 and head.settings == choice.settings


def test_the_choice_is_measured_on_images_that_the_training_has_not_seen():
    shots = made_shots(known=False)
    unseen = torch.arange(len(shots.labels)) % 4 == 0
    learned = 9 * torch.nn.functional.one_hot(shots.labels, CLASSES).double()  # as of prompts that know their own shots by heart
    shots = replace(shots, text_logits=torch.where(unseen[:, None], shots.text_logits, learned + shots.text_logits))
    assert choose(shots, unseen, "auto", seed=1).held_out == 8
    assert choose(shots, unseen, "auto", seed=1).text_loss > choose(shots, ~unseen, "auto", seed=1).text_loss


def test_one_image_per_class_takes_the_stated_default():
    shots, everyone = made_shots(each=1), torch.zeros(CLASSES, dtype=torch.bool)
    choice = choose(shots, everyone, "auto", seed=1)
    assert choice.settings == UNTESTED and "loss" not in choice.record() and choice.record()["held_out"] == 0
    assert choose(shots, everyone, "text", seed=1).settings == TEXT


def test_a_choice_without_validation_images_is_measured_on_the_training_images():
    assert choose(made_shots(), torch.zeros(CLASSES * 8, dtype=torch.bool), "auto", seed=1).held_out == CLASSES * 8


def test_the_head_of_some_classes_gives_their_logits():
    shots = made_shots(known=False)
    head = Head(fit_residual(shots, UNTESTED), UNTESTED)
    whole = head.logits(shots.text_logits, shots.image_features, SCALE)
    some = head.select([2, 0]).logits(shots.text_logits[:, [2, 0]], shots.image_features, SCALE)
    torch.testing.assert_close(some, whole[:, [2, 0]])


def test_a_calibrated_loss_weighs_classes_alike():
    shots = uneven()
    twice = torch.cat([torch.arange(len(shots.labels)), (shots.labels == 2).nonzero()[:, 0]])
    once = calibrated_loss(shots.text_logits, shots.labels)
    assert calibrated_loss(shots.text_logits[twice], shots.labels[twice]) == pytest.approx(once, rel=1e-6)
