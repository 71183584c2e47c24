"""The demo in small: every stage runs, and goals that are missed are said."""

import json

from avser.config import load_config
from preprocessing.synthetic.corpus import Settings
from tools.demo import run_demo


def test_the_demo_leaves_numbers_report_and_figures(tmp_path, capsys):
    config = load_config(
        [
            "demo",
            f"runs={tmp_path}",
            f"data.manifest={tmp_path / 'demo' / 'corpus' / 'manifest.csv'}",
            f"data.cache={tmp_path / 'demo' / 'cache'}",
            "data.test_share=0.34",
            "training.epochs=1",
            "media.crop_px=32",
        ]
    )
    missed = run_demo(config, Settings(speakers=6, clips_per_emotion=1), workers=1)
    folder = tmp_path / "demo"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics["ablation"]) == {"audio", "video", "fused", "fused_audio", "fused_video"}
    assert set(metrics["auroc"]) == {"audio", "video"}
    assert metrics["lag_error_s"]
    assert metrics["protocol"]
    figures = {path.stem for path in (folder / "figures").glob("*.png")}
    shown = {name for name in figures if not name.endswith("_disagreement")} - {"ablation"}
    assert len(shown) == 6  # one clip an emotion
    assert figures == {"ablation", *shown, *(f"{name}_disagreement" for name in shown)}
    assert "<svg" in (folder / "report.html").read_text(encoding="utf-8")
    assert "Voice, face, both" in capsys.readouterr().out
    assert any("does not beat" in sentence for sentence in missed)  # one epoch on 24 clips teaches nothing
    assert any("AUROC" in sentence for sentence in missed)
