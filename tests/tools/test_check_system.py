"""The check after installation names the Debian package of a library that cannot be loaded."""

import ctypes
import subprocess
import sys

import pytest

from tools import check_system


def test_this_machine_is_checked_as_a_person_would():
    done = subprocess.run([sys.executable, "-m", "tools.check_system"], capture_output=True, text=True, check=False)
    assert done.returncode == (1 if done.stderr else 0)
    assert done.stdout == ""


@pytest.mark.skipif(sys.platform != "linux", reason="wheels of other systems bring their libraries")
def test_missing_libraries_are_named_by_their_package(monkeypatch, capsys):
    monkeypatch.setattr(check_system, "DEBIAN_PACKAGES", {"libavser-no-such.so.1": "libnosuch1", "libc.so.6": "libc6"})
    assert check_system.missing_packages() == ["libnosuch1"]
    assert check_system.main() == 1
    assert "apt-get install libnosuch1" in capsys.readouterr().err


def test_other_systems_need_nothing(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    assert check_system.missing_packages() == []
    assert check_system.main() == 0
