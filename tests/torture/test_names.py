from __future__ import annotations

import pytest

from . import names


@pytest.mark.parametrize("payload", ["x[/b]:smile:", "\x1b[31m\u202ex\r=1+1", "$(touch ran) $a$ <b onx=1> --b"])
def test_hostile_names(payload, tmp_path, monkeypatch):
    monkeypatch.setattr(names, "PAYLOADS", (payload,))
    (outcome,) = names.run(0, 1.0, tmp_path)
    assert outcome.lost == ()
    assert outcome.tries > 15
