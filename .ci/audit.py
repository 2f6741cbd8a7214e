"""Known weaknesses in what requirements.lock names: `make audit`; one that audit-allowed.toml does not explain fails.

pip-audit asks the advisory service for the locked versions alone; nothing is installed. Where the service cannot be
reached that is said and the exit code is 0: an audit that could not be made is no reason to stop other work.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = ROOT / ".ci/audit-allowed.toml"
UNREACHABLE = (
    "ConnectionError",
    "Connection refused",
    "ConnectTimeout",
    "ReadTimeout",
    "Max retries",
    "resolve",
    "Tunnel",
    "HTTPError",
    "ServiceError",
)


def main(command: list[str]) -> int:
    """Run ``command`` (pip-audit), compare with the list of what is allowed, and return the exit code."""
    asked = [*command, "--requirement", "requirements.lock", "--require-hashes", "--disable-pip", "--format", "json"]
    try:
        done = subprocess.run(
            [*asked, "--progress-spinner", "off"], cwd=ROOT, capture_output=True, text=True, timeout=600
        )
    except subprocess.TimeoutExpired:
        print("audit: WARNING: no answer from the advisory service in 10 minutes; nothing was checked")
        return 0
    except OSError as error:
        print(f"audit: {command[0]} cannot be started ({error.strerror}): make env")
        return 1
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1][:300]
        if any(word in done.stderr for word in UNREACHABLE):
            print(f"audit: WARNING: the advisory service cannot be reached; nothing was checked ({reason})")
            return 0
        print(f"audit: pip-audit failed: {reason}")
        return 1
    return judge(packages, tomllib.loads(ALLOWED.read_text(encoding="utf-8")))


def judge(packages: list[dict], allowed: dict[str, str]) -> int:
    """Print what was found; return 1 if anything of it is not allowed with a reason."""
    found = [(p["name"], p.get("version", "?"), v) for p in packages for v in p.get("vulns", [])]
    refused = 0
    for name, version, weakness in found:
        names = [weakness["id"], *weakness.get("aliases", [])]
        reason = next((allowed[each] for each in names if allowed.get(each)), None)
        refused += reason is None
        fixed = ", ".join(weakness.get("fix_versions", [])) or "no version"
        state = f"allowed: {reason}" if reason else f"fixed in {fixed}; upgrade, or explain it in {ALLOWED.name}"
        print(f"audit: {name} {version}: {weakness['id']}: {state}")
    for each in set(allowed) - {name for _, _, w in found for name in (w["id"], *w.get("aliases", []))}:
        print(f"audit: {each} in {ALLOWED.name} is not found any more: remove it")
    print(f"audit: {len(packages)} packages, {len(found)} known weaknesses, {refused} not allowed")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or [str(Path(sys.executable).parent / "pip-audit")]))
