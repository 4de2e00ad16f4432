from amr.data_manifests.media_index import index_media
from amr.data_manifests.user_lists.media import match_intervals, match_names


def index(tmp_path, *names):
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"media")
    return index_media(tmp_path, "home")


def test_files_are_found_by_name(tmp_path):
    found = index(tmp_path, "AVE/-abc.mp4", "wav/-abc.wav", "AVE/other.mp4")
    audio, video, notes = match_names(found, ["-abc", "gone", "-abc"])
    assert audio == ["wav/-abc.wav", "", "wav/-abc.wav"]
    assert video == ["AVE/-abc.mp4", "", "AVE/-abc.mp4"]
    assert notes == ["1 file of clips in no list, left out: AVE/other.mp4."]


def test_case_counts_unless_it_is_folded(tmp_path):
    found = index(tmp_path, "v_HandStand_g01_c01.avi")
    assert match_names(found, ["v_Handstand_g01_c01"])[1] == [""]
    assert match_names(found, ["v_Handstand_g01_c01"], str.casefold)[1] == ["v_HandStand_g01_c01.avi"]


def test_ids_may_have_an_end(tmp_path):
    ids = ["--abcdefg_h_000058_000068", "--abcdefg_h_000100_000110", "AAAAAAAAAAA_000000_000010"]
    names = ["train/--abcdefg_h_000058_000068.mp4", "x/--abcdefg_h_100.mp4", "x/--abcdefg_h.mp4", "AAAAAAAAAAA.mkv"]
    _, video, notes = match_intervals(index(tmp_path, *names), ids)
    assert video == [names[0], names[1], names[3]]
    assert "left out: x/--abcdefg_h.mp4. Name them" in notes[0]
    assert notes[1] == "1 file named by video id only, read as the clip, not the whole video."


def test_of_two_files_of_a_clip_the_replacement_is_taken(tmp_path):
    clip = "AAAAAAAAAAA_000000_000010"
    found = index(tmp_path, f"train/{clip}.mp4", f"replacement/replacement_for_corrupted_k400/{clip}.mp4")
    assert match_intervals(found, [clip])[1] == [f"replacement/replacement_for_corrupted_k400/{clip}.mp4"]
