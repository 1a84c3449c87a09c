"""Look whether the addresses outside this project answer. $1: output of Sphinx's linkcheck.

Exit status 0: all answer. 1: some do not, and are listed. 2: none does, as without a network, and
nothing was learned.
"""

import json
import sys
from pathlib import Path

BAD = {"broken", "timeout"}


def judged(lines: str) -> tuple[int, str]:
    """Return exit status and text for the lines of ``output.json``."""
    links = [json.loads(line) for line in lines.splitlines()]
    outside = [link for link in links if link["uri"].startswith("http")]
    bad = [link for link in outside if link["status"] in BAD]
    answered = [link for link in outside if link["status"] in {"working", "redirected"}]
    if not answered:
        tried = f"none of {len(bad)} addresses answers; there is no network here"
        return 2, f"NOT CHECKED: {tried if bad else 'no address was tried'}"
    text = f"{len(answered)} addresses answer, {len(bad)} do not"
    for link in bad:
        text += f"\n{link['filename']}:{link['lineno']}: {link['uri']}: {link['info']}"
    return bool(bad), text


if __name__ == "__main__":
    status, text = judged(Path(sys.argv[1]).read_text())
    print(text)
    sys.exit(status)
