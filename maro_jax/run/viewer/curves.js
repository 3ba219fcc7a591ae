// Learning curves as small multiples. One cursor, an iteration, is shared by all charts.

const CHART = { width: 340, height: 190, left: 46, right: 10, top: 10, bottom: 26 };
const LINE_KINDS = 6; // colours and dashes of lines, in the style sheet

/** The whole view. `act.showIteration(n)` goes to the recorded games of an iteration. */
function curvesView(page, act) {
  const { sections, matches } = page.data.curves;
  const recorded = [...new Set(page.games.map((game) => game.iteration))].sort((a, b) => a - b);
  const cursor = { readers: [], at: null };
  const parts = [cursorBar(cursor, recorded, act), element("p", "quiet recorded-note", "▴ under an axis: games of that iteration were recorded")];
  if (matches.length) parts.push(element("section", "matches", element("h2", "", "Final matches"), ...matchTables(matches)));
  for (const { title, charts } of sections) {
    const isRest = title === "Everything else";
    const grid = element("div", "charts");
    const steps = stepsOf(charts);
    const range = [steps[0], steps[steps.length - 1]]; // that all charts of a section share
    const fill = () => grid.append(...charts.map((chart) => chartFigure(chart, range, cursor, recorded)));
    if (!isRest) {
      fill();
      parts.push(element("section", "", element("h2", "", title), grid));
      continue;
    }
    // What few look at is drawn when it is asked for.
    const rest = element("details", "rest", element("summary", "", element("h2", "", title), element("span", "quiet", ` ${charts.length} charts`)), grid);
    rest.addEventListener("toggle", () => { if (!grid.childElementCount) fill(); });
    parts.push(rest);
  }
  return parts;
}

function cursorBar(cursor, recorded, act) {
  const hint = "Point at a chart, or use the arrow keys in it.";
  const where = element("span", "number", hint);
  const go = button("", "", () => act.showIteration(recorded[nearest(recorded, cursor.at)]));
  go.hidden = true;
  cursor.readers.push((at) => {
    where.textContent = at === null ? hint : `Iteration ${at}`;
    go.hidden = at === null || !recorded.length;
    if (!go.hidden) go.textContent = `Games of iteration ${recorded[nearest(recorded, at)]}`;
  });
  return element("div", "cursor-bar", where, go);
}

function moveCursor(cursor, at) {
  cursor.at = at;
  for (const read of cursor.readers) read(at);
}

/** The iterations at which charts have values, in order. */
const stepsOf = (charts) => [...new Set(charts.flatMap((chart) => chart.lines.flatMap((line) => line.x)))].sort((a, b) => a - b);

/** The range of a chart's values, with its reference line, a little wider than they are. */
function valueRange(chart) {
  const values = chart.lines.flatMap((line) => [...line.y, ...(line.low ?? []), ...(line.high ?? [])]);
  if (chart.reference !== null) values.push(chart.reference);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = 0.06 * (high - low || Math.abs(high) || 1);
  return [low >= 0 && low - margin < 0 ? 0 : low - margin, high + margin];
}

function chartFigure(chart, [first, last], cursor, recorded) {
  const steps = stepsOf([chart]);
  const [low, high] = valueRange(chart);
  const x = (step) => CHART.left + (last === first ? 0.5 : (step - first) / (last - first)) * (CHART.width - CHART.left - CHART.right);
  const y = (value) => CHART.height - CHART.bottom - ((value - low) / (high - low)) * (CHART.height - CHART.top - CHART.bottom);
  const hair = svg("line", { class: "hair", y1: CHART.top, y2: CHART.height - CHART.bottom, visibility: "hidden" });
  const drawing = svg("svg", { viewBox: `0 0 ${CHART.width} ${CHART.height}`, role: "img", tabindex: "0" },
    axes(x, y, first, last, low, high, chart.reference, recorded), ...chart.lines.map((line, index) => drawLine(line, index, x, y)), hair);
  const readouts = chart.lines.map(() => element("span", "number value"));
  const figure = element("figure", "chart", element("figcaption", "", element("b", "", chart.title), keys(chart, readouts)), drawing);
  drawing.setAttribute("aria-label", `${chart.title}, iterations ${first} to ${last}. ${chart.lines.map((line) =>
    `${line.name}: from ${brief(line.y[0])} to ${brief(line.y[line.y.length - 1])}`).join("; ")}. Arrow keys read values.`);
  cursor.readers.push((at) => {
    const inside = at !== null && at >= first && at <= last;
    hair.setAttribute("visibility", inside ? "visible" : "hidden");
    if (inside) { hair.setAttribute("x1", x(at)); hair.setAttribute("x2", x(at)); }
    chart.lines.forEach((line, index) => { readouts[index].textContent = readout(line, inside ? at : last); });
  });
  chart.lines.forEach((line, index) => { readouts[index].textContent = readout(line, last); });
  followPointer(drawing, steps, x, cursor);
  return figure;
}

/** Value of a line at the point nearest to an iteration, with its interval or the mean of its neighbours. */
function readout(line, at) {
  const place = nearest(line.x, at);
  if (line.mean) return `${brief(line.y[place])}, mean ${brief(line.mean[place])}`;
  return brief(line.y[place]) + (line.low ? ` (${brief(line.low[place])} to ${brief(line.high[place])})` : "");
}

function keys(chart, readouts) {
  const bands = [...new Set(chart.lines.map((line) => line.band).filter(Boolean))];
  const list = element("ul", "line-keys", ...chart.lines.map((line, index) => element("li", "",
    svg("svg", { viewBox: "0 0 22 8", class: "sample", "aria-hidden": "true" }, svg("line", { class: `line kind-${index % LINE_KINDS}`, x1: 0, x2: 22, y1: 4, y2: 4 })),
    chart.lines.length > 1 ? element("span", "", line.name) : null, readouts[index])));
  return element("div", "", list, element("small", "quiet", bands.length ? `band: ${bands.join("; ")}` : ""));
}

function axes(x, y, first, last, low, high, reference, recorded) {
  const group = svg("g", { class: "axes" });
  const marks = ticks(low, high);
  for (const value of marks) {
    group.append(svg("line", { x1: CHART.left, x2: CHART.width - CHART.right, y1: y(value), y2: y(value) }),
      svg("text", { x: CHART.left - 5, y: y(value) + 3.5, "text-anchor": "end" }, markText(value, marks)));
  }
  for (const step of ticks(first, last)) {
    if (!Number.isInteger(step)) continue;
    group.append(svg("text", { x: x(step), y: CHART.height - 4, "text-anchor": "middle" }, String(step)));
  }
  for (const step of recorded.filter((one) => one >= first && one <= last)) {
    group.append(svg("path", { class: "recorded", d: `M${x(step)} ${CHART.height - CHART.bottom + 2}l3.4 6h-6.8z` }));
  }
  if (reference !== null) group.append(svg("line", { class: "reference", x1: CHART.left, x2: CHART.width - CHART.right, y1: y(reference), y2: y(reference) }));
  return group;
}

function drawLine(line, index, x, y) {
  const kind = `kind-${index % LINE_KINDS}`;
  const path = (values) => line.x.map((step, place) => `${place ? "L" : "M"}${x(step).toFixed(1)} ${y(values[place]).toFixed(1)}`).join("");
  const group = svg("g", {});
  if (line.low && line.x.length > 1) {
    const back = line.x.map((step, place) => `L${x(step).toFixed(1)} ${y(line.low[place]).toFixed(1)}`).reverse().join("");
    group.append(svg("path", { class: `band ${kind}`, d: `${path(line.high)}${back}Z` }));
  }
  if (line.mean) group.append(svg("path", { class: `raw ${kind}`, d: path(line.y) }));
  group.append(svg("path", { class: `line ${kind}`, d: path(line.mean ?? line.y) }));
  if (line.x.length <= 12 && !line.mean) {
    line.x.forEach((step, place) => {
      if (line.low) group.append(svg("line", { class: `whisker ${kind}`, x1: x(step), x2: x(step), y1: y(line.low[place]), y2: y(line.high[place]) }));
      group.append(svg("circle", { class: `dot ${kind}`, cx: x(step), cy: y(line.y[place]), r: 2.6 }));
    });
  }
  return group;
}

function followPointer(drawing, steps, x, cursor) {
  const point = (event) => {
    const box = drawing.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width) * CHART.width;
    moveCursor(cursor, steps[nearest(steps.map(x), place)]);
  };
  drawing.addEventListener("pointermove", point);
  drawing.addEventListener("pointerdown", point);
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const from = cursor.at === null ? (step > 0 ? -1 : steps.length) : nearest(steps, cursor.at);
    moveCursor(cursor, steps[Math.min(steps.length - 1, Math.max(0, from + step))]);
  });
}

/** For each game a table of matches: rate, interval as a bar on a scale from 0 to 1, and each side. */
function matchTables(matches) {
  const games = [...new Set(matches.map((match) => match.game))];
  return games.map((game) => element("div", "match-table", element("h3", "quiet", game),
    ...matches.filter((match) => match.game === game).map((match) => element("div", "match",
      element("p", "", element("b", "", match.title), element("span", "quiet number", ` ${match.games} games`)),
      ...match.rates.map((rate, index) => element("div", `rate ${index ? "of-side" : ""}`,
        element("span", "", rate.name), rateBar(rate),
        element("span", "number", isNumber(rate.mean) ? `${show(rate.mean)} (${show(rate.low)} to ${show(rate.high)})` : "–")))))));
}

function rateBar(rate) {
  const x = (value) => 100 * Math.min(1, Math.max(0, value));
  const drawing = svg("svg", { class: "rate-bar", viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("line", { class: "track", x1: 0, x2: 100, y1: 6, y2: 6 }), svg("line", { class: "reference", x1: 50, x2: 50, y1: 0, y2: 12 }));
  if (isNumber(rate.low) && isNumber(rate.high)) drawing.append(svg("line", { class: "interval", x1: x(rate.low), x2: x(rate.high), y1: 6, y2: 6 }));
  if (isNumber(rate.mean)) drawing.append(svg("line", { class: "mean", x1: x(rate.mean), x2: x(rate.mean), y1: 1.5, y2: 10.5 }));
  return drawing;
}
