from amr.fusion.report.read import read_results
from amr.fusion.report.sections import sections
from amr.fusion.report.settings import settings_of


def made_picture(made, name):
    results = read_results(made(p_corrected=0.5))
    return sections[name](results, settings_of(results))


def test_bars_of_information_are_its_parts_and_the_table_has_the_rest(made):
    picture = made_picture(made, "information")
    bars = {trace["name"]: trace["x"] for trace in picture.plots[""]["data"]}
    assert {name: values[0] for name, values in bars.items()} == {
        "redundancy": 0.3, "unique in audio": 0.7, "unique in video": 0.0, "synergy": -0.1,
    }  # fmt: skip
    assert picture.plots[""]["layout"]["barmode"] == "relative"
    row = dict(zip(picture.table.columns, (cell.value for cell in picture.table.rows[0]), strict=True))
    assert (row["head"], row["audio alone"]) == (0.9, 1.0)
    assert "1.58 bits" in picture.caption


def test_overfitting_has_a_row_per_joint_setting_with_gain_and_probes(made):
    picture = made_picture(made, "overfitting")
    assert picture.table.columns == (
        "setting", "gain over the best uni-modal head", "head", "audio alone", "video alone", "probe of audio",
        "probe of video",
    )  # fmt: skip
    assert [cell.value for cell in picture.table.rows[0]][1:] == [0.08, 0.5, 0.4, None, 0.9, 0.8]
    assert len(picture.table.rows) == 4  # not of one modality
