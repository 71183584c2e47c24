"""What `avser evaluate` tells of one run beyond UAR and WA: calibration, distance to votes, and slices of the clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from avser.data.groups import speaker_key
from avser.evaluation.pooled import Pool, score_slices
from avser.experiments.cross_validation.measures import COUNTED, measure_pools, vote_shares
from avser.experiments.cross_validation.study import slice_columns
from avser.experiments.cross_validation.tables import slice_tables, value_cell
from avser.roi.report.tables import ReportTable
from avser.training.run import answer_part, describe_part


def evaluate_details(folder: Path, part: str) -> tuple[dict[str, Any], list[ReportTable]]:
    """Scores of a finished run on train, val or test in the layout of metrics.json, and tables of the rest.

    Raises:
        AvserError: as `answer_part`.
    """
    config, data, found = answer_part(folder, part)
    rows = [data.rows[clip_id] for clip_id in found.clip_ids]
    pool = Pool(
        list(found.clip_ids),
        [speaker_key(row) for row in rows],
        np.full(len(rows), config.seed),
        np.asarray(found.labels),
        np.asarray(found.answers),
        np.asarray(found.probabilities),
    )
    measures = measure_pools({(config.data.fold, config.seed): pool}, vote_shares(rows, data.emotions, config))
    others = ReportTable(
        "Confidence, and distance to human votes where there are some",
        ["", "value"],
        [[m.name, value_cell(m.value)] for m in measures if m.name not in COUNTED],
        "Calibration error: mean distance between confidence and accuracy, of the answer given.",
    )
    tables = [others, *slice_tables(score_slices(pool, slice_columns(rows)))]
    return describe_part(config, data, part, found), tables
