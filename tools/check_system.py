"""Check after installation that the system libraries are there which the wheels need; `avser doctor` checks more."""

from __future__ import annotations

import sys

from avser.doctor.finding import describe, is_broken
from avser.doctor.versions import check_system


def main() -> int:
    findings = check_system()
    if is_broken(findings):
        print(describe(findings), file=sys.stderr)
    return 1 if is_broken(findings) else 0


if __name__ == "__main__":
    sys.exit(main())
