"""Plots as SVG text: dots on a scale of ratios, and lines. Nothing but strings comes out."""

import html
import math

COLOURS = {"pageblock": "#c8102e", "glibc": "#6b7280", "mimalloc": "#0f8a7e",
           "jemalloc": "#d97f06", "tcmalloc": "#2563b0", "tbb": "#8257b8",
           "learned": "#111827", "live": "#16a34a"}
SPARE = ["#4d7c0f", "#be3b8a", "#0e7490", "#7c4a21"]
STROKES = {False: "", True: ' stroke-dasharray="6 4"'}
INK, FAINT, GRID = "#1f2937", "#6b7280", "#e2e5ea"


def colour(name, libraries):
    if name in COLOURS:
        return COLOURS[name]
    others = [library for library in libraries if library not in COLOURS]
    return SPARE[others.index(name) % len(SPARE)]


def text(x, y, words, anchor="start", fill=INK, size=12, weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" '
            f'font-size="{size}" font-weight="{weight}">{html.escape(str(words))}</text>')


def svg(width, height, parts, label):
    return (f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
            f'aria-label="{html.escape(label)}" xmlns="http://www.w3.org/2000/svg">'
            + "".join(parts) + "</svg>")


def ratio_ticks(low, high):
    steps = [0.1, 0.2, 0.33, 0.5, 0.7, 1, 1.4, 2, 3, 5, 10, 20, 50]
    return [step for step in steps if low * 0.999 <= step <= high * 1.001]


def ratio_dots(rows, libraries, label, limits=(0.33, 10), subject="pageblock"):
    """Rows of (name, {library: (ratio, low, high, tooltip)}, failed libraries), one under
    another on one logarithmic scale; what is outside of it stands at its edge as an arrow."""
    left, width, line, top = 170, 860, 22, 30
    right = width - 84
    height = top + line * len(rows) + 34
    low, high = limits

    def x_of(ratio):
        share = math.log(min(max(ratio, low), high) / low) / math.log(high / low)
        return left + (right - left) * share

    parts = [f'<rect x="{left}" y="{top - 6}" width="{x_of(1) - left:.1f}" '
             f'height="{line * len(rows) + 6}" fill="#f1f8f2"/>']
    for tick in ratio_ticks(low, high):
        x = x_of(tick)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top - 6}" '
                     f'y2="{top + line * len(rows)}" stroke="{INK if tick == 1 else GRID}" '
                     f'stroke-width="{1.2 if tick == 1 else 1}"/>')
        parts.append(text(x, top - 12, f"{tick:g}×", "middle", FAINT, 11))
    for number, (name, values, failed) in enumerate(rows):
        y = top + line * number + line / 2
        parts.append(text(left - 10, y + 4, name, "end"))
        if number:
            parts.append(f'<line x1="{left}" x2="{right}" y1="{y - line / 2}" '
                         f'y2="{y - line / 2}" stroke="#f0f1f4"/>')
        ordered = sorted(values, key=lambda library: library == subject)  # it is drawn on top
        for library in ordered:
            parts.append(ratio_dot(values[library], x_of, y, colour(library, libraries),
                                   library == subject, limits))
        own = values.get(subject)
        note = f"{own[0]:.2f}" if own else ""
        parts.append(text(width - 62, y + 4, note, "start", COLOURS.get(subject, INK), 12,
                          "bold"))
        if failed:
            parts.append(text(width - 30, y + 4, "⚠", "start", "#b91c1c", 12)
                         .replace("</text>", f"<title>{html.escape('; '.join(failed))}</title>"
                                  "</text>"))
    parts.append(text(left, height - 12, "← ahead of the best peer", "start", "#2f7d3b", 11))
    parts.append(text(right, height - 12, "behind →", "end", FAINT, 11))
    return svg(width, height, parts, label)


def ratio_dot(value, x_of, y, fill, is_subject, limits):
    ratio, low, high, tooltip = value
    x = x_of(ratio)
    title = f"<title>{html.escape(tooltip)}</title>"
    whisker = ""
    if is_subject and low is not None:
        whisker = (f'<line x1="{x_of(low):.1f}" x2="{x_of(high):.1f}" y1="{y}" y2="{y}" '
                   f'stroke="{fill}" stroke-width="2"/>')
    if not limits[0] <= ratio <= limits[1]:
        turn = 1 if ratio > limits[1] else -1
        shape = (f'<path d="M{x + 6 * turn:.1f},{y} l{-8 * turn},-5 v10 z" fill="{fill}" '
                 f'opacity="0.9">{title}</path>')
    elif is_subject:
        shape = (f'<rect x="{x - 5.5:.1f}" y="{y - 5.5}" width="11" height="11" fill="{fill}" '
                 f'stroke="white" transform="rotate(45 {x:.1f} {y})">{title}</rect>')
    else:
        shape = (f'<circle cx="{x:.1f}" cy="{y}" r="4.5" fill="{fill}" fill-opacity="0.8" '
                 f'stroke="white" stroke-width="0.7">{title}</circle>')
    return whisker + shape


def nice_step(span, most):
    raw = span / most if span > 0 else 1
    base = 10 ** math.floor(math.log10(raw))
    return next(base * step for step in (1, 2, 5, 10) if base * step >= raw)


def lines(curves, libraries, title, y_unit, x_ticks, x_of_value, y_log=False, size=(420, 230),
          subject="pageblock", x_label="", dashed=(), key=False):
    """curves {library: [(x, y)]}; x_of_value maps x to 0..1; y is linear from 0, or a
    logarithm; dashed: the names of curves that are no library's; key: they are named at the
    right, in the order in which they end there."""
    width, height = size
    left, right, top, bottom = 52, width - (108 if key else 12), 30, height - 34
    values = [y for points in curves.values() for _, y in points if y > 0]
    if not values:
        return ""
    if y_log:
        low = max(1, 10 ** math.floor(math.log10(min(values))))
        high = 10 ** math.ceil(math.log10(max(values)) + 1e-9)
        ticks = [10 ** k for k in range(round(math.log10(low)), round(math.log10(high)) + 1)]
    else:
        low, high = 0, max(values) * 1.05
        step = nice_step(high, 5)
        ticks = [step * k for k in range(int(high / step) + 1)]

    def y_of(value):
        if y_log:
            share = math.log(max(value, low) / low) / math.log(high / low)
        else:
            share = value / high
        return bottom - (bottom - top) * share

    parts = [text(left - 40, 16, title, weight="bold", size=13)]
    for tick in ticks:
        y = y_of(tick)
        parts.append(f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" '
                     f'stroke="{GRID}"/>')
        parts.append(text(left - 6, y + 4, y_unit(tick), "end", FAINT, 10))
    for value, label in x_ticks:
        x = left + (right - left) * x_of_value(value)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}" '
                     f'stroke="{FAINT}"/>')
        parts.append(text(x, bottom + 16, label, "middle", FAINT, 10))
    if x_label:
        parts.append(text(right, height - 4, x_label, "end", FAINT, 10))
    for library in sorted(curves, key=lambda name: name == subject):
        points = " ".join(f"{left + (right - left) * x_of_value(x):.1f},{y_of(y):.1f}"
                          for x, y in curves[library])
        parts.append(f'<polyline points="{points}" fill="none" '
                     f'stroke="{colour(library, libraries)}" '
                     f'stroke-width="{2.6 if library == subject else 1.4}" '
                     f'stroke-linejoin="round"{STROKES[library in dashed]}><title>{html.escape(library)}</title></polyline>')
    if key:
        ends = sorted(curves, key=lambda name: -curves[name][-1][1])
        for at, library in enumerate(ends):
            y, fill = top + 12 + 18 * at, colour(library, libraries)
            parts.append(f'<line x1="{right + 10}" x2="{right + 30}" y1="{y - 4}" y2="{y - 4}" '
                         f'stroke="{fill}" stroke-width="{3.2 if library == subject else 2}"'
                         f'{STROKES[library in dashed]}/>')
            parts.append(text(right + 35, y, library, fill=fill, weight="bold" if library ==
                              subject else "normal"))
    return svg(width, height, parts, title)


def legend(libraries, subject="pageblock"):
    return "".join(
        f'<span class="key"><i style="background:{colour(library, libraries)}'
        f'{";transform:rotate(45deg);border-radius:1px" if library == subject else ""}"></i>'
        f"{html.escape(library)}</span>" for library in libraries)
