from amr.fusion.report.read import read_results
from amr.fusion.report.sections.fusion import fusion
from amr.fusion.report.settings import settings_of


def test_bars_and_table_are_those_of_the_evaluation(made):
    results = read_results(made(p_corrected=0.5))
    picture = fusion(results, settings_of(results))
    bars = picture.plots[""]["data"][0]
    assert dict(zip(bars["x"], bars["y"], strict=True)) == {
        "rescue": 0.06,
        "confusion<br>of audio": 0.02,
        "confusion<br>of video": 0.01,
    }
    rows = {row[0].text: dict(zip(picture.table.columns, row, strict=True)) for row in picture.table.rows}
    assert rows["no AMR"]["modality confusion audio/video"].text == "0.02/0.01"
    assert rows["no AMR"]["utilization audio/video"].text == "0.50/0.10"
    assert rows["no AMR"]["interaction share, logit"].text == "0.000"
    assert "audio only" not in rows


def test_without_an_evaluation_there_is_nothing_to_show(made):
    results = read_results(made())
    assert fusion(results, settings_of(results)) is None
