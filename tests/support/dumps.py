"""NCBI dumps as folders and archives."""

import io
import tarfile
import zipfile
from pathlib import Path

DUMP = Path(__file__).parents[1] / "data" / "taxdump"
BAR, END = "\t|\t", "\t|\n"


def dmp(*rows):
    return "".join(BAR.join(map(str, row)) + END for row in rows)


NODES = dmp((1, 1, "no rank"), (10, 1, "genus"), (11, 10, "species"))


def write_dump(folder, **tables):
    folder.mkdir(exist_ok=True)
    for name, content in {"nodes": NODES, **tables}.items():
        data = content if isinstance(content, bytes) else content.encode()
        (folder / f"{name}.dmp").write_bytes(data)
    return folder


def pack(path, members):
    """An archive of {member: bytes}, or of ready-made TarInfo/ZipInfo keys."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return path
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if info.isfile():
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path
