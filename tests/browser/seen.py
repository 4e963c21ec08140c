"""A page open in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Seen:
    """A page that is open, with all that the browser complained about or asked for."""

    def __init__(self, browser: Any, file: Path, width: int = 1280, scheme: str = "light", script: bool = True) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script
        )
        self.page = context.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())

    def marks(self, chart: str) -> list[dict[str, float]]:
        """The boxes of a chart's marks that are really painted: neither legend nor axis, and with an extent."""
        boxes: list[dict[str, float]] = self.page.eval_on_selector_all(
            f'#{chart} :is(path, line)[role="graphics-symbol"][aria-label]',
            "marks => marks.map(m => { const b = m.getBoundingClientRect(); const s = getComputedStyle(m);"
            " return {x: b.x, width: b.width, height: b.height, seen: s.fill !== 'none' || s.stroke !== 'none'} })",
        )
        return [box for box in boxes if box["seen"] and (box["width"] > 1 or box["height"] > 1)]

    def serious(self) -> list[str]:
        """What axe-core finds that keeps people from using the page, with everything unfolded."""
        from axe_playwright_python.sync_playwright import Axe

        self.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        violations = Axe().run(self.page).response["violations"]
        return [
            f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in violations if v["impact"] in ("serious", "critical")
        ]
