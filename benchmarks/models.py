"""The checkpoint as each engine opens it, converted by the engine's own means and kept."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process import run, worker_command
from benchmarks.variants import OURS_EXPORT, Variant


@dataclass(frozen=True)
class Models:
    """Converted models under `folder`, one folder each with a record beside it."""

    checkpoint: Path
    environments: Path
    folder: Path

    def place(self, variant: Variant) -> Path:
        return (self.folder / variant.slug).resolve()

    def convert(self, variant: Variant, variables: Mapping[str, str]) -> None:
        """Ours anew each time, since its code may have changed; the others' once.

        Raises WorkerError.
        """
        place = self.place(variant)
        made, recipe = place.with_suffix(".json"), self._recipe(variant)
        if variant.converter is not OURS_EXPORT and made.exists() and made.read_text() == recipe:
            return
        print(f"bench: converting for {variant.name}", file=sys.stderr, flush=True)
        made.unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        spec = {
            "module": variant.module,
            "checkpoint": str(self.checkpoint.resolve()),
            "folder": str(place),
            "options": dict(variant.convert),
        }
        python = variant.converter.python(self.environments)
        run(worker_command(python, "convert", spec), variables)
        made.write_text(recipe)

    def _recipe(self, variant: Variant) -> str:
        """What a converted model depends on."""
        files = [
            (path.name, path.stat().st_size, path.stat().st_mtime)
            for path in sorted(self.checkpoint.iterdir())
        ]
        requirements = variant.converter.requirements
        return json.dumps([str(self.checkpoint), files, requirements, dict(variant.convert)])
