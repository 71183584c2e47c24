"""The check after installation stops where a library of the system is missing, and says nothing where none is."""

import subprocess
import sys

import pytest

from avser.doctor import versions
from tools import check_system


def test_this_machine_is_checked_as_a_person_would():
    done = subprocess.run([sys.executable, "-m", "tools.check_system"], capture_output=True, text=True, check=False)
    assert done.returncode == (1 if done.stderr else 0)
    assert done.stdout == ""


@pytest.mark.skipif(sys.platform != "linux", reason="wheels of other systems bring their libraries")
def test_a_missing_library_stops_the_installation(monkeypatch, capsys):
    monkeypatch.setattr(versions, "DEBIAN_PACKAGES", {"libavser-no-such.so.1": "libnosuch1", "libc.so.6": "libc6"})
    assert check_system.main() == 1
    out, err = capsys.readouterr()
    assert "apt-get install libnosuch1 " in err
    assert out == ""
