import torch
from hypothesis import given
from hypothesis import strategies as st

from amr.fusion.run_axis.seeds import generator, normal_chunks


@given(st.integers(0, 70), st.lists(st.integers(1, 7), max_size=2), st.integers(1, 80))
def test_normal_numbers_in_chunks_are_those_of_one_draw(num_rows, row_shape, step):
    shape = (num_rows, *row_shape)
    in_chunks, at_once = generator(0, "noise"), generator(0, "noise")
    for _ in range(2):  # draws in a row leave the stream where it would be
        chunks = list(normal_chunks(shape, step, in_chunks))
        assert [len(chunk) for chunk in chunks] == [min(step, num_rows - start) for start in range(0, num_rows, step)]
        assert torch.equal(torch.cat([torch.empty(0, *row_shape), *chunks]), torch.randn(shape, generator=at_once))
