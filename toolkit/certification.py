"""A run's parity certificate is written, and whatever a path names is held against one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converters.artifact import file_sha256
from converters.certificate import Answer, Certificate, gates, read_certificate, tolerance, write_certificate
from converters.conformity import Conformity, check_or_say
from converters.keras_export import keras_logits
from converters.model_file import read_model_file
from converters.parity import check_spread
from converters.subject import Subject, artifact_subject, bundle_subjects, file_subject
from device_agent import preprocess
from device_agent.contract.errors import NotFound
from device_agent.contract.manifest import InputSpec
from device_agent.frames.picture import read_picture
from device_agent.runtimes import logits
from toolkit.artifacts import Artifact, open_artifacts
from toolkit.runs import Run, open_run

FRAMES = 16
Progress = Callable[[str], None]


def certify(run: Run, folder: Path, *, frames: int = FRAMES) -> Certificate:
    """Write the certificate of a run's model and of all its artifacts into `folder`; what was there is replaced.

    The frames are validation images as they lie on the disk, the classes in turn, at least one of each class.

    Raises:
        NotFound: the run has no artifacts.
        ParityFailed: Keras' answers to the frames do not spread, or an artifact is not what was converted.
        BadInput: `folder` is there and is no certificate.
        NotWritable: the disk is full, read-only or forbids it.
    """
    spec, dataset = run.record.input, run.dataset()
    artifacts, rows = open_artifacts(run), run.golden_rows(max(frames, len(run.labels)))
    pictures = [read_picture(dataset.dir / dataset.files[row]) for row in rows]
    fitted = np.stack([preprocess.fit(picture, spec) for picture in pictures])
    keras = _keras(run, fitted)
    spread = check_spread(keras, dataset.names)
    certificate = Certificate(
        name=run.record.name,
        labels=run.labels,
        input=spec,
        source_sha256=file_sha256(run.model_path),
        shots=[],
        keras=_listed(keras),
        spread=spread,
        answers=[_answer(artifact, spec, fitted) for artifact in artifacts],
        gates=gates(),
    )
    return write_certificate(folder, certificate, pictures, dataset.labels[rows].tolist())


def verify_against(
    path: Path, folder: Path, names: Sequence[str] = (), *, progress: Progress | None = None
) -> list[Conformity]:
    """Hold a run, an artifact's folder, a bundle or a model file against the certificate in `folder`.

    Needs neither TensorFlow nor the data set.

    Args:
        names: only these artifacts, such as "litert-int8"; all when empty.
        progress: is told the name of each artifact before it is run.

    Raises:
        NotFound: no certificate, nothing at `path` or no artifact of that name.
        TrustFailed: the certificate or the bundle was altered or damaged.
        BadInput: what is at `path` is nothing that can be verified.
    """
    certified = read_certificate(folder)
    found = []
    with _subjects(path) as subjects:
        unknown = sorted(set(names) - {each.name for each in subjects})
        if unknown:
            there = ", ".join(each.name for each in subjects) or "none"
            raise NotFound(f"{path}: no artifact {unknown[0]!r}; there are {there}")
        for subject in subjects:
            if not names or subject.name in names:
                if progress is not None:
                    progress(subject.name)
                found.append(check_or_say(subject, certified))
    return found


@contextmanager
def _subjects(path: Path) -> Iterator[list[Subject]]:
    if (path / "run.json").is_file():
        run = open_run(path)
        labels = [label.name for label in run.labels]
        names = run.artifacts()
        if not names:
            raise NotFound(f"{path}: no artifacts to verify; convert with: lineside convert {path} --all")
        yield [artifact_subject(run.artifact_dir(name), run.record.input, labels) for name in names]
    elif path.is_dir():
        yield [artifact_subject(path)]
    elif path.suffix == ".lineside":
        with bundle_subjects(path) as subjects:
            yield subjects
    else:
        model = read_model_file(path)
        yield [file_subject(path, model.runtime, model.precision)]


def _keras(run: Run, fitted: NDArray[np.uint8]) -> NDArray[np.float32]:
    return keras_logits(run.model(), run.record.input, fitted)


def _answer(artifact: Artifact, spec: InputSpec, fitted: NDArray[np.uint8]) -> Answer:
    model = artifact.open(spec)
    try:
        answers = np.array([logits(model, image) for image in fitted])
    finally:
        model.close()
    return Answer(
        name=artifact.name,
        runtime=artifact.runtime,
        runtime_version=model.version,
        precision=artifact.precision,
        files={name: artifact.record.sha256[name] for name in artifact.record.files},
        logits=_listed(answers),
        tolerance=tolerance(artifact.precision, answers),
    )


def _listed(values: NDArray[np.floating]) -> list[list[float]]:
    return [[round(float(value), 6) for value in row] for row in values]
