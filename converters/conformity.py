"""Does a model still do what its certificate says? Preprocessing and model are judged apart, so that the one at fault
is named."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from converters.certificate import Answer, Certificate, Certified
from converters.parity import EVIDENCE, Gate
from converters.subject import Subject
from device_agent import preprocess
from device_agent.contract.errors import LinesideError
from device_agent.contract.manifest import InputSpec
from device_agent.runtimes import logits, open_runtime

Logits = NDArray[np.floating]


class Conformity(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured on the frames of a certificate with the runtime of that version.

    `preprocess_steps` is the largest difference of a preprocessed value (of 255) and `preprocess_frames` how many
    frames are off by more than is allowed. `model_error` is the largest difference of a logit on the certificate's own
    preprocessed images, as a share of the spread of Keras' logits; it is against the recorded answers where the files
    are those that were certified (`same_files`), and against Keras elsewhere; `allowed` is what it may be.
    `total_error` and `changed` are what comes of preprocessing and model together: the largest difference from Keras,
    and frames that get another class. `failures` is empty for a pass.
    """

    name: str
    runtime: str
    runtime_version: str
    precision: str
    frames: int
    same_files: bool
    preprocess_steps: int
    preprocess_frames: int
    model_error: float
    allowed: float
    total_error: float
    changed: int
    failures: list[str] = []

    @property
    def passed(self) -> bool:
        """Whether the model does what the certificate says."""
        return not self.failures


def check(subject: Subject, certified: Certified, *, threads: int = 1) -> Conformity:
    """Run the device's own preprocessing and runtime over the frames of a certificate.

    Raises:
        BadInput: the runtime cannot load the file, or it does not take images of the certificate's size.
        MissingPackage: the runtime is not installed.
    """
    certificate = certified.certificate
    spec = subject.input or certificate.input
    taken = np.stack([preprocess.fit(frame, spec) for frame in certified.frames])
    keras = np.array(certificate.keras)
    objections = _other_settings(spec, certificate.input) + _other_labels(subject.labels, certificate)
    if taken.shape != certified.fitted.shape:
        return _refused(subject, certificate, objections)
    version, fixed = _run(subject, certificate.input, certified.fitted, threads)
    if fixed.shape != keras.shape:
        said = f"the model gives {fixed.shape[1]} logits, the certificate has {keras.shape[1]} classes"
        return _refused(subject, certificate, [*objections, said])
    whole = fixed
    if spec != certificate.input or not np.array_equal(taken, certified.fitted):
        whole = _run(subject, spec, taken, threads)[1]
    answer = _answer(subject, certificate)
    steps = np.abs(taken.astype(int) - certified.fitted).reshape(len(taken), -1).max(axis=1)
    gate = certificate.gates[subject.precision]
    allowed = gate.max_error if answer is None else answer.tolerance / certificate.spread
    found = Conformity(
        name=subject.name,
        runtime=subject.runtime,
        runtime_version=version,
        precision=subject.precision,
        frames=len(taken),
        same_files=answer is not None,
        preprocess_steps=int(steps.max()),
        preprocess_frames=int((steps > certificate.steps).sum()),
        model_error=_largest(fixed, keras, certificate) if answer is None else _off(fixed, answer, certificate),
        allowed=allowed,
        total_error=_largest(whole, keras, certificate),
        changed=int((whole.argmax(axis=1) != keras.argmax(axis=1)).sum()),
    )
    off = [*objections, *_preprocessing(found, certificate), *_model(found, fixed, keras, gate, certificate)]
    return msgspec.structs.replace(found, failures=off)


def check_or_say(subject: Subject, certified: Certified) -> Conformity:
    """As `check`; what it refuses becomes the failure of this one subject, so that the others are still judged."""
    try:
        return check(subject, certified)
    except LinesideError as error:
        return _refused(subject, certified.certificate, [str(error)])


def _run(subject: Subject, spec: InputSpec, images: NDArray[np.uint8], threads: int) -> tuple[str, Logits]:
    model = open_runtime(subject.runtime, subject.path, spec, threads=threads)
    try:
        return model.version, np.array([logits(model, image) for image in images])
    finally:
        model.close()


def _refused(subject: Subject, certificate: Certificate, failures: list[str]) -> Conformity:
    return Conformity(
        name=subject.name,
        runtime=subject.runtime,
        runtime_version="",
        precision=subject.precision,
        frames=0,
        same_files=_answer(subject, certificate) is not None,
        preprocess_steps=0,
        preprocess_frames=0,
        model_error=0.0,
        allowed=0.0,
        total_error=0.0,
        changed=0,
        failures=failures,
    )


def _answer(subject: Subject, certificate: Certificate) -> Answer | None:
    """The recorded answers to these very files, whatever they are called now."""
    digests = sorted(subject.files.values())
    return next(
        (
            each
            for each in certificate.answers
            if each.runtime == subject.runtime and sorted(each.files.values()) == digests
        ),
        None,
    )


def _other_settings(spec: InputSpec, wanted: InputSpec) -> list[str]:
    given, right = msgspec.to_builtins(spec), msgspec.to_builtins(wanted)
    other = [f"{name} {given[name]}, certified {right[name]}" for name in right if given[name] != right[name]]
    return [f"preprocessing differs: {'; '.join(other)}"] if other else []


def _other_labels(labels: list[str] | None, certificate: Certificate) -> list[str]:
    wanted = [label.name for label in certificate.labels]
    if labels is None or labels == wanted:
        return []
    return [f"labels differ: {', '.join(labels)}; certified are {', '.join(wanted)}"]


def _preprocessing(found: Conformity, certificate: Certificate) -> list[str]:
    if not found.preprocess_frames:
        return []
    return [
        f"preprocessing differs by up to {found.preprocess_steps} of 255 on {found.preprocess_frames} of "
        f"{found.frames} frames, {certificate.steps} is allowed; together with the model a logit is off by "
        f"{found.total_error:.3g} of the spread and {found.changed} frames change class"
    ]


def _model(found: Conformity, fixed: Logits, keras: Logits, gate: Gate, certificate: Certificate) -> list[str]:
    """What is wrong with the logits (n, classes) on the certificate's own preprocessed images."""
    if not np.isfinite(fixed).all():
        return ["the model gives logits that are not finite"]
    if found.model_error > found.allowed:
        against = "its certified answers" if found.same_files else "Keras"
        return [
            f"the model differs from {against} on the certificate's own preprocessed images: a logit is off by "
            f"{found.model_error:.3g} of the spread, {found.allowed:.3g} is allowed"
        ]
    if found.same_files:
        return []
    mean = float(np.abs(_centre(fixed) - _centre(keras)).mean() / certificate.spread)
    if mean > gate.mean_error:
        return [f"the model differs from Keras by {mean:.3g} of the spread on average, {gate.mean_error:g} is allowed"]
    top = np.sort(keras, axis=1)
    ties = (top[:, -1] - top[:, -2]) / certificate.spread < gate.tie
    changed = int((~ties & (fixed.argmax(axis=1) != keras.argmax(axis=1))).sum())
    slack = 1.645 * np.sqrt(gate.disagreement * (1 - gate.disagreement) / max(len(keras), EVIDENCE))
    if changed > (gate.disagreement + slack) * len(keras):
        return [f"the model puts {changed} of {len(keras)} frames into another class than Keras"]
    return []


def _largest(got: Logits, keras: Logits, certificate: Certificate) -> float:
    return _finite(np.abs(_centre(got) - _centre(keras)).max() / certificate.spread)


def _off(got: Logits, answer: Answer, certificate: Certificate) -> float:
    return _finite(np.abs(got - np.array(answer.logits)).max() / certificate.spread)


def _finite(value: np.floating) -> float:
    return float(value) if np.isfinite(value) else float(np.finfo(np.float64).max)


def _centre(values: Logits) -> Logits:
    return np.asarray(values - values.mean(axis=1, keepdims=True))
