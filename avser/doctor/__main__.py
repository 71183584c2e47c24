"""`python -m avser.doctor`: the answer of `avser doctor`, where that command itself does not start."""

import sys

from avser.doctor.examination import examine
from avser.doctor.finding import describe, is_broken

if __name__ == "__main__":
    findings = examine()
    print(describe(findings))
    sys.exit(1 if is_broken(findings) else 0)
