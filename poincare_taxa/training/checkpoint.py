"""Checkpoints of a training run: one file an epoch, whole or not there at all.

A checkpoint is a safetensors file, ``epoch-000012.safetensors``: the tensors (points, moments of
the optimizer, state of the random generator), and, in the file's header, everything else as JSON
and the SHA-256 of all of it. It is written beside its place and renamed into it, so that a run that
is killed at any moment leaves the checkpoints that it had. Nothing is pickled.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from poincare_taxa.files.atomic import DRAFT, mend, probe, replace_file
from poincare_taxa.files.locks import Lock
from poincare_taxa.files.records import dtype_name, library_version
from poincare_taxa.model.storage import open_tensors, parse_json, save_tensors

__all__ = ["FORMAT_VERSION", "Checkpoint", "Checkpoints"]

FORMAT = "poincare-taxa checkpoint"
FORMAT_VERSION = 1

_GO_ON = " Delete it, and the run resumes from the checkpoint before"


class Checkpoint(NamedTuple):
    """What a checkpoint holds."""

    tensors: dict[str, Tensor]
    """By name, on the CPU."""
    state: dict[str, Any]
    """What JSON can hold."""


class Checkpoints:
    """A folder of checkpoints of one run.

    Parameters
    ----------
    path
        The folder; made when it is first needed.
    keep_last
        How many of the latest checkpoints stay, at least 1.

    Raises
    ------
    ValueError
        If ``keep_last < 1``.

    Examples
    --------
    >>> import torch
    >>> checkpoints = Checkpoints(getfixture("tmp_path") / "run", keep_last=2)
    >>> for epoch in (1, 2, 3, 4):
    ...     checkpoints.save(epoch, {"x": torch.full((2,), epoch)}, {"lr": 0.1}, keep=[1])
    >>> checkpoints.epochs()
    [1, 3, 4]
    >>> checkpoints.load(4)
    Checkpoint(tensors={'x': tensor([4, 4])}, state={'lr': 0.1})
    """

    path: Path

    def __init__(self, path: str | Path, *, keep_last: int = 2) -> None:
        if keep_last < 1:
            raise ValueError(f"keep_last must be at least 1; got {keep_last}")
        self.path = Path(path)
        self.keep_last = keep_last
        self._lock: Lock | None = None

    def hold(self) -> None:
        """Make the folder, and keep other processes from training in it until `release`.

        Raises
        ------
        OSError
            If there can be no such folder, or nothing can be written to it.
        BlockingIOError
            If another process holds it.
        """
        self.ensure_writable()
        try:
            self._lock = Lock(self.path / "run.lock")
        except BlockingIOError as error:
            raise BlockingIOError(
                error.errno,
                f"another run is in {self.path} (process {error.strerror}): wait for its end, or "
                "name another folder",
            ) from None

    def release(self) -> None:
        """Let other processes train in the folder; nothing happens where it is not held."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def ensure_writable(self) -> None:
        """Make the folder and write to it, so that a run fails before it begins, not after.

        What a killed run of this library left half written is removed.

        Raises
        ------
        OSError
            If there can be no such folder, or nothing can be written to it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe(self._file(0))
            for draft in self.path.glob(f".epoch-*{DRAFT}*"):
                mend(self.path / draft.name.removeprefix(".").rsplit(DRAFT, 1)[0])
        except OSError as error:
            raise OSError(
                f"checkpoints cannot be written to {self.path} ({error.strerror}): name a folder "
                "that can be made and written"
            ) from error

    def epochs(self) -> list[int]:
        """Epochs of which there is a checkpoint, ascending."""
        if not self.path.is_dir():
            return []
        found = (re.fullmatch(r"epoch-(\d+)\.safetensors", file.name) for file in self._files())
        return sorted(int(match[1]) for match in found if match)

    def save(
        self,
        epoch: int,
        tensors: Mapping[str, Tensor],
        state: Mapping[str, Any],
        *,
        keep: Collection[int] = (),
    ) -> None:
        """Write a checkpoint, then delete older ones.

        Parameters
        ----------
        epoch
            Its number.
        tensors
            By name.
        state
            What JSON can hold, numbers finite.
        keep
            Epochs whose checkpoints stay besides the latest: the best.
        """
        header = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "library_version": library_version(),
            "state": dict(state),
        }
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        text = json.dumps(header, allow_nan=False)
        about = {"checkpoint": text, "sha256": _digest(text, plain)}
        with replace_file(self._file(epoch)) as draft:
            save_tensors(plain, draft, about)
        for old in self.epochs()[: -self.keep_last]:
            if old not in keep:
                self._file(old).unlink(missing_ok=True)

    def load(self, epoch: int) -> Checkpoint:
        """Read a checkpoint.

        Raises
        ------
        FileNotFoundError
            If there is none of this epoch.
        ValueError
            If the file was cut short, is none of this library's, or is another version's.
        """
        file = self._file(epoch)
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such checkpoint; there are {self.epochs()}")
        with open_tensors(file, _GO_ON) as stream:
            about = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        if "checkpoint" not in about:
            raise ValueError(f"{file} does not say {FORMAT!r}: another program's file?")
        # Checkpoints of earlier versions have no checksum.
        if about.get("sha256", found := _digest(about["checkpoint"], tensors)) != found:
            raise ValueError(
                f"{file} was changed after it was written (its SHA-256 differs).{_GO_ON}"
            )
        header = parse_json(about["checkpoint"], file)
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise ValueError(f"{file} does not say {FORMAT!r}: another program's file?")
        versions = header.get("format_version"), header.get("library_version")
        if versions != (FORMAT_VERSION, library_version()):
            raise ValueError(
                f"{file} was written by poincare-taxa {versions[1]} (checkpoint format "
                f"{versions[0]}); this is {library_version()} (format {FORMAT_VERSION}), "
                "which would not go on with the same bits: install that version, or start anew"
            )
        if not isinstance(header.get("state"), dict):
            raise ValueError(f"{file} has no state of a run.{_GO_ON}")
        return Checkpoint(tensors, header["state"])

    def _file(self, epoch: int) -> Path:
        return self.path / f"epoch-{epoch:06d}.safetensors"

    def _files(self) -> list[Path]:
        return list(self.path.iterdir())


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of a header and of the names, dtypes, shapes and bytes of tensors on the CPU."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, dtype_name(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
