"""Damaged and hostile inputs, drawn by random numbers: bytes, JSON, tables, folders.

*Damage* is what happens to files: bytes change, files are cut short, lines are lost. *Hostile* is
what a program would write that wants to do harm: whole files whose content fits no taxonomy, with
hashes that are right.
"""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import random
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

TOKENS = [
    *(b"", b"\n", b"\r", b"\r\n", b"\t", b",", b";", b"|", b"\t|\t", b"\t|\n", b"  ", b"#", b"\0"),
    *(b'"', b"'", b"''", b'""', b"\\", b"(", b")", b"((((", b"))))", b"[", b"]", b":", b"{", b"}"),
    *(b"-1", b"0", b"1.0", b"9" * 25, b"1e999", b"nan", b"NA", b"NULL", b"\\N", b"-0", b"1_0"),
    *(b"\xff", b"\xc3\x28", b"\xef\xbb\xbf", "τ".encode(), "\u202e".encode(), b"a" * 5000),
    *(b"id", b"parent", b"child", b"name", b"rank", b"lineage", b"species", b"root", b"d__x;p__y"),
    *(b"#NEXUS\nBEGIN TREES;\n", b"TREE a = ", b"TRANSLATE 1 a, 2 b;", b"sep=;\n", b"synonym"),
]
VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2,
        7,
        10**9,
        2**63,
        10**30,
        0.5,
        -0.0,
        1e308,
        "",
        "x",
        "float16",
    ),
    *([], {}, [[]], [None], {"a": 1}, "τ" * 1000, "../../etc/passwd", "points.safetensors", "NaN"),
]


def damaged(data: bytes, draw: random.Random, others: Sequence[bytes] = (b"",)) -> bytes:
    """Change a file in up to four places; `others` are files whose pieces may be pasted in."""
    found = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randint(0, len(found))
        to = min(len(found), at + draw.choice([0, 1, 2, 8, 40, 400]))
        match draw.randrange(8):
            case 0:
                found[at:to] = draw.randbytes(to - at)
            case 1:
                del found[at:to]
            case 2:
                found[at:at] = found[at:to] * draw.choice([1, 2, 30])
            case 3 | 4:
                found[at : draw.choice([at, to])] = draw.choice(TOKENS)
            case 5:
                del found[at:]
            case 6:
                other = draw.choice(others)
                start = draw.randint(0, len(other))
                found[at:to] = other[start : start + draw.choice([1, 10, 100])]
            case 7:
                lines = found.splitlines(keepends=True)
                draw.shuffle(lines)
                found = bytearray(b"".join(lines))
    return bytes(found)


def hostile_json(value: Any, draw: random.Random) -> Any:
    """Replace, remove or nest one value of a JSON document."""
    places: list[tuple[Any, Any]] = []

    def collect(part: Any) -> None:
        for key in part if isinstance(part, dict) else range(len(part)):
            places.append((part, key))
            if isinstance(part[key], dict | list):
                collect(part[key])

    value = json.loads(json.dumps(value))
    collect(value)
    part, key = draw.choice(places)
    match draw.randrange(4):
        case 0:
            del part[key]
        case 1:
            part[key] = [part[key]]
        case _:
            part[key] = draw.choice(VALUES)
    return value


def hostile_table(table: pl.DataFrame, draw: random.Random) -> pl.DataFrame:
    """Change the columns, the rows or the types of a table."""
    name = draw.choice(table.columns)
    column = table[name]
    match draw.randrange(8):
        case 0:
            return table.drop(name)
        case 1:
            return table.sample(fraction=1, shuffle=True, seed=draw.randrange(1000))
        case 2:
            return pl.concat([table, table[: draw.randint(0, len(table))]])
        case 3:
            return table[: draw.randint(0, len(table))]
        case 4:
            kinds = [pl.String(), pl.Float64(), pl.Int8(), pl.Binary(), pl.Boolean(), pl.Date()]
            kinds += [
                pl.Categorical(),
                pl.UInt64(),
                pl.Null(),
                pl.List(pl.Int64()),
                pl.Decimal(9, 2),
            ]
            kind = draw.choice(kinds)
            return table.with_columns(pl.Series(name, [None] * len(table), dtype=kind))
        case 5:
            return table.with_columns(column.shift(draw.choice([1, -1])))
        case 6:
            row = draw.randrange(len(table)) if len(table) else 0
            value = draw.choice([None, *column.to_list()])
            return table.with_columns(pl.Series(name, [value] * len(table), dtype=column.dtype))[
                : row + 1
            ].vstack(table[row + 1 :])
        case _:
            texts = [
                draw.choice(["", "nan", "-1", "1.0", "a;b", "τ", None]) for _ in range(len(table))
            ]
            return table.with_columns(pl.Series(name, texts, dtype=pl.String))


def hostile_tensors(data: bytes, draw: random.Random) -> bytes:
    """Change the header of a safetensors file: names, dtypes, shapes, offsets; or its numbers."""
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
    names = [name for name in header if name != "__metadata__"]
    part = header[draw.choice(names)]
    match draw.randrange(6):
        case 0:
            part["dtype"] = draw.choice(
                ["F32", "I64", "U64", "F16", "BF16", "F8_E4M3", "C64", "BOOL"]
            )
        case 1:
            sizes = [0, 1, 2, -1, 10**9, 2**40, 2**63]
            part["shape"] = [draw.choice(sizes) for _ in range(draw.randint(0, 3))]
        case 2:
            count = 1
            for size in part["shape"]:
                count *= size
            part["shape"] = draw.choice([[count], [1, count], [count, 1], [count, 1, 1]])
        case 3:
            part["data_offsets"] = [draw.choice([0, 8, -8, 2**63, len(body)]) for _ in range(2)]
        case 4:
            header = hostile_json(header, draw)
        case _:
            at = 8 * draw.randrange(max(len(body) // 8, 1))
            body[at : at + 8] = draw.choice([b"\0" * 8, b"\xff" * 8, draw.randbytes(8)])[
                : len(body) - at
            ]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(body)


def hostile_arrays(data: bytes, draw: random.Random) -> bytes:
    """Change an array of an npz file: kind, shape, numbers, or what its header announces."""
    with np.load(io.BytesIO(data)) as stored:
        arrays = dict(stored)
    name = draw.choice(sorted(arrays))
    array = arrays[name]
    buffer = io.BytesIO()
    match draw.randrange(7):
        case 0:
            del arrays[name]
        case 1:
            arrays[name] = array.astype(draw.choice(["u1", "i8", "f2", "f8", "c16", "U3", "M8[s]"]))
        case 2:
            arrays[name] = array.reshape(draw.choice([(-1, 1), (1, -1), (-1,)]))
        case 3:
            arrays[name] = array[draw.randint(0, len(array)) :]
        case 4:
            arrays[name] = array.copy()
            value = draw.choice([0, 1, 127, 255, -1, 2**62])
            np.copyto(arrays[name].reshape(-1)[:1], np.array(value), casting="unsafe")
        case 5:  # it runs code where it is unpickled
            arrays[name] = np.array([Harmful()], object)
    np.savez(buffer, **arrays)
    with zipfile.ZipFile(buffer) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    if draw.random() < 0.2 and f"{name}.npy" in members:  # more is announced than there is
        large = draw.choice([b"9" * 12, b"1" * 18, b"0", b"-1", b"'a'"])
        shape = str(array.shape[0]).encode()
        text = members[f"{name}.npy"]
        members[f"{name}.npy"] = text.replace(b"(" + shape, b"(" + large, 1)
    return packed(members, "zip")


class Harmful:
    """An object whose pickle ends the process that reads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (3,)


def hostile_folder(saved: Sequence[Mapping[str, bytes]], target: Path, draw: random.Random) -> None:
    """Write a saved embedding and change one of its files; most often with hashes that fit."""
    files = draw.choice(saved)
    target.mkdir()
    for name, data in files.items():
        (target / name).write_bytes(data)
    file = target / draw.choice(sorted(files))
    data = files[file.name]
    kind = draw.randrange(6)
    if kind == 0:
        file.write_bytes(draw.choice(saved).get(file.name, b""))
    elif kind == 1:
        file.write_bytes(damaged(data, draw, [files["meta.json"]]))
    elif file.name == "meta.json":
        meta = hostile_json(json.loads(data), draw)
        deep = b'{"format": ' + b"[" * draw.choice([10, 10**5])
        file.write_bytes(deep if kind == 2 else json.dumps(meta).encode())
    elif file.suffix == ".parquet":
        hostile_table(pl.read_parquet(data), draw).write_parquet(file)
    else:
        file.write_bytes(hostile_tensors(data, draw))
    if draw.random() < 0.8:
        forge_hashes(target)


def forge_hashes(folder: Path) -> None:
    """Write the sizes and hashes of the files as they are now, where ``meta.json`` is readable."""
    file = folder / "meta.json"
    try:
        meta = json.loads(file.read_bytes())
        for name, record in meta["files"].items():
            data = (folder / name).read_bytes()
            record |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        file.write_text(json.dumps(meta), encoding="utf-8")
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError):
        return


def packed(members: dict[str, bytes], kind: str) -> bytes:
    """Pack files as ``zip``, ``tar``, ``tar.gz``, ``tar.bz2`` or ``tar.xz``, without the time."""
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    compress = {"tar": bytes, "tar.gz": zipped, "tar.bz2": bz2.compress, "tar.xz": lzma.compress}
    return compress[kind](buffer.getvalue())


def zipped(data: bytes) -> bytes:
    """Compress by gzip, at a time that does not change."""
    return gzip.compress(data, 1, mtime=0)
