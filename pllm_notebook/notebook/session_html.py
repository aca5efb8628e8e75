"""A session as HTML, in the page's own colours, which also fits a dark theme, and with a fixed layout.

All text from a program or a provider is escaped here.
"""

from __future__ import annotations

from pllm_notebook.formatting import escape_html, strip_control_chars
from pllm_notebook.notebook import progress_format, session_format
from pllm_notebook.sessions import STATES, AgentStatus, SessionStatus

__all__ = ["bundle", "session_html"]

_COLOURS = {
    "cached": "var(--jp-brand-color2, #64b5f6)",
    "stored": "var(--jp-brand-color1, #2196f3)",
    "received": "var(--jp-success-color1, #388e3c)",
    "sent": "rgba(33,150,243,0.35)",
    "pending": "var(--jp-warn-color2, #ffb74d)",
    "failed": "var(--jp-error-color1, #d32f2f)",
    "asked": "rgba(128,128,128,0.45)",
}
_TRACK = "rgba(128,128,128,0.2)"
_TEXT = (
    "font:var(--jp-ui-font-size1,13px)/22px var(--jp-ui-font-family,system-ui,sans-serif);"
    "font-variant-numeric:tabular-nums;color:var(--jp-ui-font-color1,inherit)"
)
_SMALL = "font-size:12px;line-height:18px;opacity:0.8"
_BADGE = (
    "font-size:10px;font-weight:600;letter-spacing:0.06em;padding:1px 6px;border-radius:8px;margin-left:6px;"
    "color:#7a4b00;background:#ffd98a"
)
_SAID = {"running": "", "done": "ended", "paused": "waiting", "failed": "ended early"}


def session_html(status: SessionStatus) -> str:
    """Render a session: its models and cost, a bar of its calls by state, and its agents."""
    s = status
    badge = f" <span style='{_BADGE}'>SIMULATED</span>" if s.simulated else ""
    names = escape_html(session_format.models(s))
    said = f" · {_SAID[s.state]}" if _SAID[s.state] else ""
    head = (
        f"<div><b>{escape_html(session_format.label(s))}</b> · {escape_html(s.strategy)}{said}"
        f"{f' · {names}' if names else ''}{badge} · {escape_html(session_format.cost(s))} · "
        f"{escape_html(progress_format.format_duration(s.elapsed_s))}</div>"
    )
    return f"<div style='{_TEXT}'>{head}{_bar(s)}{_legend(s)}{_agents(s)}</div>"


def _bar(s: SessionStatus) -> str:
    inner = "".join(
        # Even a single failed call among a thousand is visible.
        f"<div style='flex:none;min-width:2px;width:{100 * s.counts[state] / s.total:.2f}%;"
        f"background:{_COLOURS[state]}'></div>"
        for state in STATES
        if s.counts.get(state)
    )
    said = escape_html(", ".join(session_format.counts(s)) or "no calls yet")
    return (
        f"<div role='img' aria-label='{said}' style='display:flex;max-width:480px;height:10px;margin:4px 0;"
        f"border-radius:5px;overflow:hidden;background:{_TRACK}'>{inner}</div>"
    )


def _legend(s: SessionStatus) -> str:
    """Render every state with its number of calls, even 0, so that the layout is fixed."""
    width = max(3, len(f"{s.total:,}"))
    parts = [
        f"<span style='white-space:nowrap;margin-right:14px;opacity:{1 if s.counts.get(state) else 0.72}'>"
        f"<span style='display:inline-block;width:9px;height:9px;border-radius:2px;margin-right:5px;"
        f"background:{_COLOURS[state]}'></span>{state} "
        f"<span style='display:inline-block;min-width:{width}ch'>{s.counts.get(state, 0):,}</span></span>"
        for state in STATES
    ]
    return f"<div style='font-size:12px'>{' '.join(parts)}</div>"


def _agents(s: SessionStatus) -> str:
    if not s.agents:
        return ""
    rows = "".join(_agent(each) for each in s.agents[: session_format.MAX_AGENTS])
    more = "".join(
        f"<div style='{_SMALL}'>{escape_html(each.strip())}</div>" for each in session_format.omitted_agents(s)
    )
    return f"<table style='margin:2px 0;font-size:12px;border-collapse:collapse'>{rows}</table>{more}"


def _agent(status: AgentStatus) -> str:
    a = status
    share = 100 * a.done / a.calls if a.calls else 0
    failed = f"<b>{a.failed:,} failed</b>" if a.failed else ""  # no red is readable on white and on black
    # A notebook styles tables in an output differently from those in a widget.
    cell = "padding:0 10px 0 0;text-align:left;background:none;line-height:18px;border:0"
    return (
        f"<tr style='background:none'><td style='{cell};max-width:22ch;overflow:hidden;text-overflow:ellipsis'>"
        f"{escape_html(a.name)}</td><td style='{cell}'><div style='width:120px;height:6px;border-radius:3px;"
        f"background:{_TRACK}'><div style='width:{share:.1f}%;height:6px;border-radius:3px;"
        f"background:{_COLOURS['stored']}'></div></div></td>"
        f"<td style='{cell}'>{a.done:,} / {a.calls:,}</td><td style='{cell}'>{failed}</td></tr>"
    )


def bundle(status: SessionStatus) -> dict[str, str]:
    """Return a MIME bundle without a widget: HTML and plain text."""
    text = "\n".join(session_format.lines(status))
    return {"text/plain": strip_control_chars(text), "text/html": session_html(status)}
