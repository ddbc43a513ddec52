"""The package of BioDCASE-Tiny 2026: what the organisers lay over their repository and run on the hidden test set."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import torch
import yaml

from submission.inference.checkpoint import FILES, packaged, sources
from submission.packing.systems import System
from submission.schema import PackageFormat
from system.editions import Edition
from system.errors import RunError
from system.scoring.metrics import one_hot, roc_auc
from system.scoring.predictions import Predictions

MODEL_FOLDER = "your_submission_model"


def members(rules: Edition, layout: PackageFormat, system: System) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Path -> content of every file but meta.yaml, and what was measured: accuracy, ROC AUC, size of the model file."""
    rate = rules.sample_rate
    found = system.first.run.spec.features.sample_rate
    if rate is not None and found > rate:
        raise RunError(f"{system.first.run.folder} was trained at {found} Hz, but recordings have {rate} Hz")
    folder = layout.folder.format(label=system.label)
    about, tensors = packaged(system.first, system.classes)
    buffer = io.BytesIO()
    torch.save({"about": json.dumps(about), "tensors": tensors}, buffer)
    model = f"{MODEL_FOLDER}/{system.label}.pth"
    numbered = enumerate(system.classes)
    files = {
        f"{folder}/{model}": buffer.getvalue(),
        f"{folder}/{MODEL_FOLDER}/label_dict.yaml": _yaml({"label_dict": {name: i for i, name in numbered}}),
        f"{folder}/config_submission.yaml": _yaml(_config(rules, model)),
        f"{folder}/tinyscene_biodcase.py": (FILES / "biodcase2026" / "tinyscene_biodcase.py").read_bytes(),
        **{f"{folder}/{name}": content for name, content in sources("").items()},
    }
    return files, {"file_bytes": len(buffer.getvalue()), **_scores(system.first.scored.scenes)}


def _scores(predictions: Predictions) -> dict[str, float]:
    """As the organisers compute them: the share of right rows, and the mean over classes of the area under the ROC."""
    rows = [row for row, label in enumerate(predictions.label) if label]
    truth = np.array([predictions.classes.index(predictions.label[row]) for row in rows])
    probabilities = predictions.probabilities[rows]
    return {
        "accuracy_inference": round(float(np.mean(probabilities.argmax(axis=1) == truth)), 4),
        "roc_auc_inference": round(
            float(np.nanmean(roc_auc(probabilities, one_hot(truth, len(predictions.classes))))), 4
        ),
    }


def _config(rules: Edition, model: str) -> dict[str, Any]:
    """config_submission.yaml with the keys of the organisers' own; paths are relative to their folder submission/."""
    return {
        "report_dir": "./reports",
        "test_file_dir": "./test_wav_files",
        "test_files_ext": ".wav",
        "inference_handler": {
            "add_python_paths": [],
            "target_sample_rate": rules.sample_rate,
            "target_wav_length_sec": round(rules.segment_seconds or 0),
            "model_dir": f"./{MODEL_FOLDER}",
            "saved_model_extension": ".pth",
            "tflite_model_extension": ".tflite",
            "label_dict_yaml_path": f"./{MODEL_FOLDER}/label_dict.yaml",
            "feature_handler": {
                "module": "tinyscene_biodcase",
                "attr": "FeatureHandler",
                "args": [],
                "kwargs": {"checkpoint": f"./{model}", "target_sample_rate": rules.sample_rate},
            },
            "model": {"module": "tinyscene_biodcase", "attr": "Model", "args": [], "kwargs": {}},
        },
        "generate_embedded_code": {
            "template_dir": "../biodcase_tiny/embedded/firmware",
            "gen_code_dir": "./your_generated_code",
            "gen_code_source_folder_name": "src",
            "serial_device": "/dev/ttyUSB0",
            "quantize": False,
        },
    }


def _yaml(value: Any) -> bytes:
    return yaml.safe_dump(value, sort_keys=False).encode()
