"""What a person is told when the data directory cannot be used."""

import pytest

from chatoperator.datadir import DataDir, UpError


def test_a_directory_that_cannot_be_written_is_refused_with_a_sentence(tmp_path):
    data = DataDir(tmp_path / "data")
    data.create()
    (data.root / "lock").mkdir()
    with pytest.raises(UpError, match="cannot write in"):
        data.lock()
