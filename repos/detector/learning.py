"""The training loop: epochs over labelled images, validation after each, checkpoints, and the model at the end.

The same samples with the same seed give the same weights, to the bit, on the same kind of machine with the same number
of cores; also when the job was stopped in the middle of an epoch and went on from its checkpoint.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import checkpoint
import numpy as np
from earlier import Earlier
from network import boxes_of, losses, network, top_layers
from samples import Samples, read, split

from tritonforge import tf_memory
from tritonforge.training.algorithm import Container, HyperparameterError, HyperParameterValues, InputError, Stopping
from tritonforge.training.detection import Detections, Truth, compute_mean_average_precision, suppress

__all__ = ["Learner", "optimizer_of", "train"]

#: Images of one validation step.
_STEP: Final = 32

#: Hyperparameters that may differ when training resumes from a checkpoint: its duration.
_FREE: Final = ("epochs", "early_stopping", "early_stopping_patience", "early_stopping_min_delta")

#: The part of all steps in which a cosine schedule rises first: large steps lead an untrained network astray.
_RISING: Final = 1 / 6

_HISTORY: Final = "history.json"


def train(container: Container, values: HyperParameterValues, stopping: Stopping) -> None:
    """Train on the container's channels, and leave a model repository for Triton in its model directory.

    When ``stopping`` is set, a checkpoint is saved and nothing else: the next run with the same checkpoints resumes.
    """
    side = int(values.text("image_size"))
    channels = container.channels
    _check(values, model="model" in channels)
    given = Earlier.read(channels["model"]) if "model" in channels else None
    samples = read(channels["training"], side)
    if "validation" in channels:
        training, validation = samples, read(channels["validation"], side)
    else:
        training, validation = split(samples)
    categories = samples.categories
    if not categories:
        raise InputError("channel training has no box on any image; there is nothing to learn")
    strange = sorted(set(validation.categories) - set(categories))
    if strange:
        raise InputError(f"channel validation has category {strange[0]}, which channel training has not")
    say(
        f"{len(training)} images to train, {len(validation)} to validate; {sum(map(len, samples.ids))} boxes of "
        f"{len(categories)} classes"
    )
    known = dict(given.names) if given is not None else {}
    names = [samples.names.get(category) or known.get(category) or str(category) for category in categories]
    if given is not None:
        given.check(categories, values.text("reinitialize_top_layer"))
    job = {**_select_bound(values), "set of images": samples.digest, "set of classes": list(categories)}
    found = _load_checkpoint(container.checkpoint_dir, job)
    # Nothing above needs TensorFlow: errors of the job are reported before it is loaded.
    learner = Learner(values, training, validation, categories, given, job=job)
    if found is not None:
        learner.resume(*found)
    if not learner.run(container.checkpoint_dir, stopping):
        return
    (container.output_data_dir / _HISTORY).write_text(json.dumps(learner.history, indent=1) + "\n")
    import exporting

    began = time.monotonic()
    exporting.export(learner.network, categories=categories, labels=names, side=side, folder=container.model_dir)
    say(f"the model repository is written to {container.model_dir} ({time.monotonic() - began:.1f} s)")


def say(sentence: str) -> None:
    """One line of the log."""
    print(sentence, flush=True)  # noqa: T201 - a training program's log is its standard output


class Learner:
    """A network on its way: its weights, its optimizer, and how far it has come."""

    def __init__(
        self,
        values: HyperParameterValues,
        training: Samples,
        validation: Samples,
        categories: Sequence[int],
        given: Earlier | None,
        *,
        job: Mapping[str, Any],
    ) -> None:
        keras = tf_memory.import_keras()
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
        keras.utils.set_random_seed(values.integer("seed"))
        self.values, self.training, self.validation = values, training, validation
        self.categories = tuple(categories)
        self.network = network(len(categories), training.side)
        if given is not None:
            say(given.put_into(self.network, self.categories, values.text("reinitialize_top_layer")))
        if values.flag("train_only_on_top_layer"):
            for layer in self.network.layers:
                layer.trainable = layer is top_layers(self.network)
        self.optimizer = optimizer_of(values)
        self.optimizer.build(self.network.trainable_variables)
        self.job = dict(job)
        self.history: list[dict[str, float]] = []
        self.epoch = self.step = self.waited = 0
        self.summed = 0.0
        self.best = math.inf
        self._train_step, self._validate_step = _steps(self.network, self.optimizer, training.side)

    def run(self, folder: Path, stopping: Stopping) -> bool:
        """Train to the end; False when it was stopped before, with a checkpoint in ``folder``."""
        while self.epoch < self.values.integer("epochs") and not self._has_stopped_early():
            if not self._epoch(stopping):
                self.save(folder)
                say(f"stopped in epoch {self.epoch + 1} after {self.step} steps; the checkpoint is saved")
                return False
            self.save(folder)
        if self._has_stopped_early():
            say(f"stopped early: no progress in {self.waited} epochs")
        return True

    def _epoch(self, stopping: Stopping) -> bool:
        """One epoch, or the rest of one; False when it was stopped in it."""
        size = self.values.integer("batch_size")
        order = np.random.default_rng([self.values.integer("seed"), self.epoch]).permutation(len(self.training))
        steps = math.ceil(len(order) / size)
        began, first = time.monotonic(), self.step
        while self.step < steps:
            if stopping.is_set():
                return False
            places = order[self.step * size : (self.step + 1) * size]
            self.optimizer.learning_rate = self._rate(self.epoch * steps + self.step, steps)
            pixels, wanted, targets = self.training.batch(places, self.categories)
            self.summed += float(self._train_step(pixels, wanted, targets)) * len(places)
            self.step += 1
        seconds = time.monotonic() - began
        loss, rate = self.summed / len(order), (len(order) - first * size) / max(seconds, 1e-9)
        localization, classification, precision = self.validate()
        self.epoch, self.step, self.summed = self.epoch + 1, 0, 0.0
        # The metrics of the declaration are read off this line; each number has something behind it, as the regex of
        # the loss needs one character more.
        say(
            f"epoch {self.epoch} of {self.values.integer('epochs')}: loss={loss:.6f}, "
            f"Val_localization={localization:.6f}, Val_classification={classification:.6f}, "
            f"Val_mAP50={precision:.6f}, {rate:.1f} images/s"
        )
        self.history.append(
            {
                "epoch": self.epoch,
                "loss": loss,
                "localization": localization,
                "classification": classification,
                "mAP50": precision,
                "images_per_second": rate,
            }
        )
        total = localization + classification
        if total < self.best - self.values.number("early_stopping_min_delta"):
            self.best, self.waited = total, 0
        else:
            self.waited += 1
        return True

    def validate(self) -> tuple[float, float, float]:
        """(localization loss, classification loss, mean average precision at IoU 0.5) on the validation images."""
        sums = np.zeros(2)
        found: list[Detections] = []
        for start in range(0, len(self.validation), _STEP):
            places = np.arange(start, min(start + _STEP, len(self.validation)))
            pixels, wanted, targets = self.validation.batch(places, self.categories)
            localization, classification, boxes, scores = self._validate_step(pixels, wanted, targets)
            sums += np.asarray([localization, classification]) * len(places)
            for boxes_of_image, likely in zip(boxes.numpy(), scores.numpy(), strict=True):
                found.append(Detections(*suppress(boxes_of_image, likely)))
        known = np.asarray(self.categories)
        truths = [
            Truth(boxes, np.searchsorted(known, ids))
            for boxes, ids in zip(self.validation.boxes, self.validation.ids, strict=True)
        ]
        localization, classification = sums / len(self.validation)
        return float(localization), float(classification), compute_mean_average_precision(truths, found).mean

    def save(self, folder: Path) -> None:
        """Write the checkpoint."""
        state = {
            "epoch": self.epoch,
            "step": self.step,
            "summed": self.summed,
            "best": self.best if math.isfinite(self.best) else None,
            "waited": self.waited,
            "history": self.history,
            "job": self.job,
        }
        checkpoint.save(folder, {str(n): variable.numpy() for n, variable in enumerate(self._variables())}, state)

    def resume(self, arrays: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Go on from what `save` wrote."""
        for number, variable in enumerate(self._variables()):
            variable.assign(arrays[str(number)])
        self.epoch, self.step, self.summed = state["epoch"], state["step"], state["summed"]
        self.best = math.inf if state["best"] is None else state["best"]
        self.waited, self.history = state["waited"], list(state["history"])
        say(f"going on from a checkpoint: epoch {self.epoch + 1}, step {self.step}")

    def _variables(self) -> list[Any]:
        return [*self.network.variables, *self.optimizer.variables]

    def _has_stopped_early(self) -> bool:
        return self.values.flag("early_stopping") and self.waited >= self.values.integer("early_stopping_patience")

    def _rate(self, step: int, steps: int) -> float:
        """The learning rate of a step, counted from 0 over all epochs of that many steps."""
        rate = self.values.number("learning_rate")
        if self.values.text("learning_rate_schedule") == "constant":
            return rate
        total = steps * self.values.integer("epochs")
        rising = total * _RISING
        if step < rising:
            return rate * (step + 1) / (rising + 1)
        return rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / (total - rising)))


def _check(values: HyperParameterValues, *, model: bool) -> None:
    """Hold hyperparameters against each other; raises HyperparameterError."""
    problems = []
    if not model and values.flag("train_only_on_top_layer"):
        problems.append("train_only_on_top_layer is True without a channel model, and random layers would stay random")
    if not model and values.text("reinitialize_top_layer") == "False":
        problems.append("reinitialize_top_layer is False without a channel model that has a top layer")
    if problems:
        raise HyperparameterError(problems)


def _select_bound(values: HyperParameterValues) -> dict[str, Any]:
    """The hyperparameters that a checkpoint is bound to."""
    return {name: value for name, value in values.items() if name not in _FREE}


def _load_checkpoint(folder: Path, job: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Load the checkpoint in a folder, None if the folder has none.

    Raises:
        InputError: it is damaged, or of a training with other data or hyperparameters.
    """
    found = checkpoint.load(folder)
    if found is None:
        return None
    before = found[1].get("job", {})
    differing = [name for name in job if before.get(name) != job[name]]
    if differing:
        raise InputError(
            f"the checkpoint in {folder} is of a training with another {', another '.join(differing)}; give the job a "
            "checkpoint folder of its own, or what it had before"
        )
    return found


def optimizer_of(values: HyperParameterValues) -> Any:
    """Keras: the optimizer that the hyperparameters name, with its own among them."""
    import keras

    rate, kind = values.number("learning_rate"), values.text("optimizer")
    momentum, epsilon, rho = values.number("momentum"), values.number("epsilon"), values.number("rho")
    if kind == "adam":
        return keras.optimizers.Adam(
            rate, beta_1=values.number("beta_1"), beta_2=values.number("beta_2"), epsilon=epsilon
        )
    if kind in ("sgd", "nesterov"):
        return keras.optimizers.SGD(rate, momentum=momentum, nesterov=kind == "nesterov")
    if kind == "rmsprop":
        return keras.optimizers.RMSprop(rate, rho=rho, momentum=momentum, epsilon=epsilon)
    if kind == "adagrad":
        start = values.number("initial_accumulator_value")
        return keras.optimizers.Adagrad(rate, initial_accumulator_value=start, epsilon=epsilon)
    return keras.optimizers.Adadelta(rate, rho=rho, epsilon=epsilon)


def _steps(model: Any, optimizer: Any, side: int) -> tuple[Any, Any]:
    """TensorFlow functions: one training step, which gives the loss, and one validation step."""
    import tensorflow as tf

    # Not compiled with XLA: on two cores it made a step a tenth faster, and took ten seconds for it.
    pixels = tf.TensorSpec((None, side, side, 3), tf.uint8)
    wanted = tf.TensorSpec((None, None), tf.int32)
    targets = tf.TensorSpec((None, None, 4), tf.float32)

    @tf.function(input_signature=[pixels, wanted, targets], autograph=False)
    def train_step(images: Any, classes: Any, boxes: Any) -> Any:
        with tf.GradientTape() as tape:
            logits, distances = model(tf.cast(images, tf.float32), training=True)
            localization, classification = losses(logits, distances, classes, boxes, side)
            loss = localization + classification
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    @tf.function(input_signature=[pixels, wanted, targets], autograph=False)
    def validate_step(images: Any, classes: Any, boxes: Any) -> Any:
        logits, distances = model(tf.cast(images, tf.float32), training=False)
        found = tf.clip_by_value(boxes_of(distances, side) / side, 0.0, 1.0)
        return *losses(logits, distances, classes, boxes, side), found, tf.sigmoid(logits)

    return train_step, validate_step
