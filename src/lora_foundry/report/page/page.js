"use strict";
/* Draws what the page's own data says. All of it comes from people's files, so it is only ever written as text. */
const data = JSON.parse(document.getElementById("data").textContent);
const jobs = new Map(data.jobs.map((job) => [job.job, job]));
const find = (query, within = document) => within.querySelector(query);
const every = (query, within = document) => [...within.querySelectorAll(query)];
const hidden = new Set(recalled("hidden", []));
const COLOURS = 7, DASHES = ["", "7 4", "2 3", "9 3 2 3"];
const HEIGHT = 330, FEW = 12;

function recalled(name, otherwise) {
  try { return JSON.parse(sessionStorage.getItem(data.id + name)) ?? otherwise; } catch { return otherwise; }
}
function keep(name, value) {
  try { sessionStorage.setItem(data.id + name, JSON.stringify(value)); } catch { /* a page from a disk may have no storage */ }
}

/* ---- marks ---- */
function make(tag, given = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) element.setAttribute(name, value);
  element.append(...inside);
  return element;
}
function mark(tag, given = {}, text = null) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(given)) element.setAttribute(name, value);
  if (text !== null) element.textContent = text;
  return element;
}
const colour = (job) => `var(--c${jobs.get(job).place % COLOURS})`;
const dashes = (job) => DASHES[Math.floor(jobs.get(job).place / COLOURS) % DASHES.length];

function number(value) {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return String(Number(value.toPrecision(3)).toExponential()).replace("e+", "e");
  return String(Number(value.toPrecision(4)));
}

/* ---- axes ---- */
function linear(low, high, from, to) {
  const at = (value) => from + ((value - low) / (high - low || 1)) * (to - from);
  const step = niceStep((high - low) / 5 || 1);
  const ticks = [];
  for (let place = Math.ceil(low / step - 1e-9); place * step <= high + step * 1e-9; place += 1) ticks.push(Number((place * step).toPrecision(12)));
  return { at, ticks };
}
function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((each) => each * power >= rough * 0.999);
}
function logarithmic(low, high, from, to) {
  const { at } = linear(Math.log10(low), Math.log10(high), from, to);
  const ticks = [];
  for (const parts of [[1], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9]]) {
    ticks.length = 0;
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1)
      for (const part of parts) if (part * 10 ** power >= low * 0.999 && part * 10 ** power <= high * 1.001) ticks.push(Number((part * 10 ** power).toPrecision(6)));
    if (ticks.length >= 2) break;
  }
  return { at: (value) => at(Math.log10(value)), ticks: ticks.length ? ticks : [low, high] };
}
function listed(values, from, to) {
  const step = (to - from) / values.length;
  return { at: (value) => from + (values.indexOf(value) + 0.5) * step, ticks: values };
}
/* The axis of a swept key: numbers where all of its values are, else what is listed. */
function axisOf(key, from, to) {
  const values = [...new Set(data.jobs.map((job) => job.values[key.key]).filter((value) => value !== undefined))];
  if (!key.numbers) return { ...listed(values, from, to), value: (job) => job.values[key.key], show: String };
  const found = values.map(Number), few = [...new Set(found)].sort((a, b) => a - b);
  const [low, high] = widened(Math.min(...found), Math.max(...found), key.log);
  const axis = (key.log ? logarithmic : linear)(low, high, from, to);
  return { ...axis, ticks: few.length <= 6 && few.every((each) => number(each).length <= 6) ? few : axis.ticks, value: (job) => job.values[key.key] === undefined ? undefined : Number(job.values[key.key]), show: number };
}
function widened(low, high, log) {
  if (log) { const by = (high / low) ** 0.06 || 1.1; return low === high ? [low / 2, high * 2] : [low / by, high * by]; }
  const by = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  return [low - by, high + by];
}

/* A sheet with axes. `x` and `y` take the pixels from and to. */
function sheet(place, { x, y, xTitle, yTitle, height = HEIGHT, left = 62 }) {
  const width = Math.max(place.clientWidth, 240);
  const drawing = mark("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `${yTitle ?? ""} over ${xTitle ?? ""}` });
  const right = width - 16, bottom = height - 42, top = 22;
  const across = x(left, right), up = y(bottom, top);
  for (const tick of up.ticks) {
    drawing.append(mark("path", { class: "axis", d: `M${left} ${up.at(tick)}H${right}` }));
    drawing.append(mark("text", { x: left - 7, y: up.at(tick) + 4, "text-anchor": "end" }, (up.show ?? number)(tick)));
  }
  let last = -Infinity;
  for (const tick of across.ticks) {
    const at = across.at(tick), words = short((across.show ?? number)(tick), 14), wide = words.length * 3.4 + 5;
    drawing.append(mark("path", { class: "axis", d: `M${at} ${bottom}v5` }));
    if (at - wide < last) continue;
    last = at + wide;
    drawing.append(mark("text", { x: Math.min(at, width - wide + 4), y: bottom + 19, "text-anchor": "middle" }, words));
  }
  drawing.append(mark("path", { class: "axis", d: `M${left} ${bottom}H${right}` }));
  if (xTitle) drawing.append(mark("text", { x: (left + right) / 2, y: height - 4, "text-anchor": "middle" }, xTitle));
  if (yTitle) drawing.append(mark("text", { x: left - 50, y: 10 }, yTitle));
  place.replaceChildren(drawing);
  return { drawing, across, up, left, right, top, bottom, width };
}
const shortEnd = (text, most) => (text.length > most ? "…" + text.slice(text.length - most + 1) : text); // names differ at their ends
const short = (text, most) => (text.length > most ? text.slice(0, most - 1) + "…" : text);

/* ---- what is under the pointer ---- */
const tip = find("#tip");
function tell(event, title, lines) {
  tip.replaceChildren(make("p", {}, make("strong", {}, title)));
  for (const [swatch, words, value] of lines) {
    const line = make("p");
    if (swatch) line.append(make("i", { style: `background:${swatch}` }));
    line.append(make("span", {}, words), make("b", {}, value));
    tip.append(line);
  }
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(6, Math.min(event.clientX + 14, innerWidth - box.width - 8))}px`;
  tip.style.top = `${event.clientY + box.height + 24 > innerHeight ? Math.max(4, event.clientY - box.height - 12) : event.clientY + 16}px`;
}
const untell = () => { tip.hidden = true; };
addEventListener("scroll", untell, { passive: true });
function told(element, title, lines) {
  element.addEventListener("pointerenter", (event) => tell(event, title(), lines()));
  element.addEventListener("pointerleave", untell);
}
function values(job) {
  return [["", data.short, number(job.relative)], ...data.keys.map((key) => ["", key.short, job.values[key.key] ?? "-"]), ["", "state", job.state.toLowerCase()]];
}

/* ---- curves ---- */
function curves(place) {
  const metric = find("#metric").value, log = find("#logarithmic").checked;
  const lines = Object.entries(data.curves[metric]).map(([job, points]) => [Number(job), points.filter(([, value]) => !log || value > 0)]).filter(([job, points]) => !hidden.has(job) && points.length);
  if (!lines.length) { place.replaceChildren(make("p", { class: "faint" }, "Every member is switched off.")); return; }
  const xs = lines.flatMap(([, points]) => points.map((point) => point[0])), ys = lines.flatMap(([, points]) => points.map((point) => point[1]));
  const low = Math.min(...ys), high = Math.max(...ys), [bottom, top] = widened(low, high, log);
  const drawn = sheet(place, {
    x: (from, to) => linear(Math.min(...xs, 0), Math.max(...xs), from, to),
    y: (from, to) => (log ? logarithmic : linear)(bottom, top, from, to),
    xTitle: "samples", yTitle: metric,
  });
  const many = lines.length > 2 * FEW, first = new Set(ranked().slice(0, FEW).map((job) => job.job));
  for (const [job, points] of lines) {
    const faded = many && !first.has(job) ? ";stroke-opacity:.25" : "", at = points.map(([x, y]) => `${drawn.across.at(x).toFixed(1)} ${drawn.up.at(y).toFixed(1)}`);
    drawn.drawing.append(mark("path", { class: "curve", d: `M${at.join("L")}`, style: `stroke:${colour(job)};stroke-width:${job === data.best ? 3.5 : 2}${faded}`, "stroke-dasharray": dashes(job) }));
    if (points.length <= FEW) for (const [x, y] of points) drawn.drawing.append(mark("circle", { cx: drawn.across.at(x), cy: drawn.up.at(y), r: 3, style: `fill:${colour(job)}` }));
  }
  follow(drawn, lines, [...new Set(xs)].sort((a, b) => a - b));
}
function follow(drawn, lines, xs) {
  const guide = mark("path", { class: "guide", visibility: "hidden" });
  drawn.drawing.append(guide);
  const look = (event) => {
    const box = drawn.drawing.getBoundingClientRect(), x = ((event.clientX - box.left) * drawn.width) / box.width;
    const near = xs.reduce((best, each) => (Math.abs(drawn.across.at(each) - x) < Math.abs(drawn.across.at(best) - x) ? each : best));
    guide.setAttribute("d", `M${drawn.across.at(near)} ${drawn.top}V${drawn.bottom}`);
    guide.setAttribute("visibility", "visible");
    const there = lines.flatMap(([job, points]) => points.filter((point) => point[0] === near).map((point) => [job, point[1]])).sort((a, b) => a[1] - b[1]);
    const more = there.length > FEW ? [["", `and ${there.length - FEW} more`, ""]] : [];
    tell(event, `${number(near)} samples`, [...there.slice(0, FEW).map(([job, value]) => [colour(job), jobs.get(job).name, number(value)]), ...more]);
  };
  drawn.drawing.addEventListener("pointermove", look);
  drawn.drawing.addEventListener("pointerdown", look);
  drawn.drawing.addEventListener("pointerleave", () => { guide.setAttribute("visibility", "hidden"); untell(); });
}
const ranked = () => [...data.jobs].sort((a, b) => (a.relative ?? Infinity) - (b.relative ?? Infinity) || a.job - b.job);
function chips() {
  const place = find("#members");
  const measured = new Set(Object.values(data.curves).flatMap((lines) => Object.keys(lines).map(Number)));
  for (const job of ranked().filter((one) => measured.has(one.job))) {
    const swatch = mark("svg", { viewBox: "0 0 26 8", height: 8, "aria-hidden": "true" });
    swatch.append(mark("path", { class: "curve", d: "M0 4H26", style: `stroke:${colour(job.job)};stroke-width:3`, "stroke-dasharray": dashes(job.job) }));
    const chip = make("button", { type: "button", "aria-pressed": String(!hidden.has(job.job)), "data-job": job.job }, swatch, job.name);
    chip.addEventListener("click", () => { hidden.has(job.job) ? hidden.delete(job.job) : hidden.add(job.job); refreshed(); });
    chip.addEventListener("dblclick", () => { const alone = [...measured].every((each) => each === job.job || hidden.has(each)); hidden.clear(); if (!alone) for (const each of measured) if (each !== job.job) hidden.add(each); refreshed(); });
    place.append(chip);
  }
}
function refreshed() {
  keep("hidden", [...hidden]);
  for (const chip of every("#members button")) chip.setAttribute("aria-pressed", String(!hidden.has(Number(chip.dataset.job))));
  draw("curves");
}

/* ---- the best over each other ---- */
function against(place) {
  const rows = data.against.slice(0, FEW), wide = place.clientWidth, left = Math.min(210, wide * 0.42), height = rows.length * 24 + 66;
  const [low, high] = widened(Math.min(0, ...rows.map((row) => row.low)), Math.max(0, ...rows.map((row) => row.high)), false);
  const drawn = sheet(place, { left, height, xTitle: "percent", x: (from, to) => linear(low, high, from, to), y: (from, to) => ({ at: (row) => to + row * 24 + 12, ticks: [] }) });
  drawn.drawing.append(mark("path", { class: "guide", d: `M${drawn.across.at(0)} ${drawn.top}V${drawn.bottom}` }));
  rows.forEach((row, index) => {
    const y = drawn.up.at(index), tone = row.high < 0 ? "var(--accent)" : "var(--faint)";
    const bar = mark("g");
    bar.append(mark("text", { x: left - 8, y: y + 4, "text-anchor": "end", class: "strong" }, shortEnd(row.name, Math.floor(left / 7.5))));
    bar.append(mark("path", { d: `M${drawn.across.at(row.low)} ${y}H${drawn.across.at(row.high)}`, style: `stroke:${tone};stroke-width:3` }));
    bar.append(mark("circle", { cx: drawn.across.at(row.percent), cy: y, r: 5, style: `fill:${tone}` }));
    bar.append(mark("rect", { x: 0, y: y - 12, width: wide, height: 24, fill: "transparent" }));
    told(bar, () => row.name, () => [["", "difference", `${row.percent.toFixed(2)} %`], ["", "interval", `${row.low.toFixed(2)} to ${row.high.toFixed(2)} %`]]);
    drawn.drawing.append(bar);
  });
  if (data.against.length > rows.length) place.append(make("p", { class: "faint" }, `The nearest ${rows.length} of ${data.against.length}.`));
}

/* ---- loss against each key ---- */
const scored = data.jobs.filter((job) => job.relative !== null);
function losses() { return widened(Math.min(...scored.map((job) => job.relative)), Math.max(...scored.map((job) => job.relative)), false); }
function againstKey(key, place) {
  const drawn = sheet(place, { height: 260, xTitle: key.key + (key.log ? " (logarithmic)" : ""), yTitle: data.relative, x: (from, to) => axisOf(key, from, to), y: (from, to) => linear(...losses(), from, to) });
  means(key, drawn);
  for (const job of scored) {
    const value = drawn.across.value(job);
    if (value === undefined) continue;
    const dot = mark("circle", { cx: drawn.across.at(value), cy: drawn.up.at(job.relative), r: job.job === data.best ? 7 : 5, style: `fill:${colour(job.job)};fill-opacity:.85;stroke:var(--ground)` });
    told(dot, () => job.name, () => values(job));
    drawn.drawing.append(dot);
  }
  for (const job of data.jobs.filter((one) => one.relative === null)) {
    const value = drawn.across.value(job);
    if (value === undefined) continue;
    const x = drawn.across.at(value), y = drawn.top + 2, cross = mark("g", { style: `stroke:var(--${job.state === "FAILED" ? "bad" : "faint"});stroke-width:2` });
    cross.append(mark("path", { d: `M${x - 5} ${y - 5}l10 10m0 -10l-10 10` }), mark("circle", { cx: x, cy: y, r: 9, fill: "transparent", style: "stroke:none" }));
    told(cross, () => job.name, () => values(job));
    drawn.drawing.append(cross);
  }
  for (const setting of data.settings) {
    const value = drawn.across.value(jobs.get(setting.jobs[0]));
    if (value === undefined) continue;
    const x = drawn.across.at(value) + 11, bar = mark("g", { style: "stroke:var(--ink);stroke-width:2" });
    bar.append(mark("path", { d: `M${x} ${drawn.up.at(setting.mean - setting.spread)}V${drawn.up.at(setting.mean + setting.spread)}M${x - 5} ${drawn.up.at(setting.mean)}h10` }));
    told(bar, () => setting.name, () => [["", "mean", number(setting.mean)], ["", "deviation over seeds", number(setting.spread)]]);
    drawn.drawing.append(bar);
  }
}
/* A line through the means, where values come again. */
function means(key, drawn) {
  const found = new Map();
  for (const job of scored) { const value = drawn.across.value(job); if (value !== undefined) found.set(value, [...(found.get(value) ?? []), job.relative]); }
  if (found.size < 2 || found.size > FEW || !key.numbers || found.size === scored.length && data.keys.length > 1) return;
  const at = [...found].sort((a, b) => a[0] - b[0]).map(([value, all]) => `${drawn.across.at(value)} ${drawn.up.at(all.reduce((a, b) => a + b) / all.length)}`);
  drawn.drawing.append(mark("path", { class: "curve", d: `M${at.join("L")}`, style: "stroke:var(--faint);stroke-opacity:.6" }));
}

/* ---- bands of timesteps ---- */
function bands(place) {
  const names = data.bands.map((band) => band.name), all = data.bands.flatMap((band) => Object.values(band.jobs));
  const [low, high] = widened(Math.min(...all), Math.max(...all), false);
  const drawn = sheet(place, { height: 280, xTitle: "timesteps", yTitle: "loss over that at 0 samples", x: (from, to) => ({ ...listed(names, from, to), show: String }), y: (from, to) => linear(low, high, from, to) });
  const first = new Set(ranked().slice(0, FEW).map((job) => job.job));
  for (const job of [...data.jobs].reverse()) {
    const points = data.bands.filter((band) => job.job in band.jobs).map((band) => [drawn.across.at(band.name), drawn.up.at(band.jobs[job.job])]);
    const faded = data.jobs.length > 2 * FEW && !first.has(job.job) ? ";stroke-opacity:.25" : "";
    drawn.drawing.append(mark("path", { class: "curve", d: points.length ? `M${points.map(([x, y]) => `${x} ${y}`).join("L")}` : "", style: `stroke:${colour(job.job)};stroke-width:${job.job === data.best ? 3.5 : 2}${faded}`, "stroke-dasharray": dashes(job.job) }));
    for (const [x, y] of points) {
      const dot = mark("circle", { cx: x, cy: y, r: 4, style: `fill:${colour(job.job)}` });
      told(dot, () => job.name, () => data.bands.map((band) => ["", band.name, number(band.jobs[job.job])]));
      drawn.drawing.append(dot);
    }
  }
}

/* ---- parallel coordinates ---- */
function parallel(place) {
  const keys = data.keys.filter((key) => key.shown), count = keys.length + 1, wide = Math.max(place.clientWidth, count * 120), height = 300;
  const drawing = mark("svg", { viewBox: `0 0 ${wide} ${height}`, height, style: `width:${wide}px`, role: "img", "aria-label": "parallel coordinates" });
  const at = (index) => 58 + (index * (wide - 100)) / (count - 1), top = 40, bottom = height - 18;
  const axes = [...keys.map((key) => ({ name: key.short, ...axisOf(key, bottom, top) })), { name: data.short, ...linear(...losses(), bottom, top), value: (job) => job.relative, show: number }];
  axes.forEach((axis, index) => {
    drawing.append(mark("path", { class: "axis", d: `M${at(index)} ${top}V${bottom}` }));
    drawing.append(mark("text", { x: at(index), y: 18, "text-anchor": "middle", class: "strong" }, short(axis.name, 16)));
  });
  const worstFirst = [...scored].sort((a, b) => b.relative - a.relative);
  worstFirst.forEach((job, place) => {
    const points = axes.map((axis, index) => [axis.value(job), index, axis]).filter(([value]) => value !== undefined).map(([value, index, axis]) => `${at(index)} ${axis.at(value)}`);
    const best = place === worstFirst.length - 1, strength = 0.35 + (0.55 * place) / Math.max(1, worstFirst.length - 1);
    const line = mark("path", { class: "curve", d: `M${points.join("L")}`, style: `stroke:var(--${best ? "c1" : "c0"});stroke-opacity:${best ? 1 : strength};stroke-width:${best ? 3.5 : 2}` });
    const wider = mark("path", { class: "curve", d: `M${points.join("L")}`, style: "stroke:transparent;stroke-width:11" });
    told(wider, () => job.name, () => values(job));
    wider.addEventListener("pointerenter", () => line.style.setProperty("stroke-width", "5"));
    wider.addEventListener("pointerleave", () => line.style.setProperty("stroke-width", best ? "3.5" : "2"));
    drawing.append(line, wider);
  });
  axes.forEach((axis, index) => { for (const tick of axis.ticks) drawing.append(mark("text", { class: "halo", x: at(index) - 6, y: axis.at(tick) + 4, "text-anchor": "end" }, short(axis.show(tick), 8))); });
  place.replaceChildren(drawing);
}

/* ---- a search ---- */
function importance(place) {
  const rows = Object.entries(data.searched.importance), left = Math.min(190, place.clientWidth * 0.4), height = rows.length * 28 + 60;
  const drawn = sheet(place, { left, height, xTitle: "share", x: (from, to) => linear(0, Math.max(...rows.map((row) => row[1]), 0.01), from, to), y: (from, to) => ({ at: (row) => to + row * 28 + 12, ticks: [] }) });
  rows.forEach(([key, share], index) => {
    const y = drawn.up.at(index);
    drawn.drawing.append(mark("rect", { x: left, y: y - 9, width: Math.max(1, drawn.across.at(share) - left), height: 18, rx: 3, style: "fill:var(--c0)" }));
    drawn.drawing.append(mark("text", { x: left - 8, y: y + 4, "text-anchor": "end", class: "strong" }, shortEnd(key, Math.floor(left / 7.5))));
    const inside = drawn.across.at(share) > drawn.right - 44;
    drawn.drawing.append(mark("text", { x: drawn.across.at(share) + (inside ? -6 : 6), y: y + 4, "text-anchor": inside ? "end" : "start", style: inside ? "fill:var(--ground)" : "" }, `${(100 * share).toFixed(0)} %`));
  });
}
function front(place) {
  const points = Object.entries(data.searched.told).map(([job, both]) => [Number(job), both]);
  if (!points.length) return;
  const range = (which) => widened(Math.min(...points.map(([, both]) => both[which])), Math.max(...points.map(([, both]) => both[which])), false);
  const drawn = sheet(place, { xTitle: `${data.searched.objectives[0]} (${data.searched.directions[0]})`, yTitle: `${data.searched.objectives[1]} (${data.searched.directions[1]})`, x: (from, to) => linear(...range(0), from, to), y: (from, to) => linear(...range(1), from, to) });
  const best = points.filter(([job]) => data.searched.front.includes(job)).sort((a, b) => a[1][0] - b[1][0]);
  if (best.length) drawn.drawing.append(mark("path", { class: "curve", style: "stroke:var(--c1)", d: `M${best.map(([, both]) => `${drawn.across.at(both[0])} ${drawn.up.at(both[1])}`).join("L")}` }));
  for (const [job, both] of points) {
    const on = data.searched.front.includes(job);
    const dot = mark("circle", { cx: drawn.across.at(both[0]), cy: drawn.up.at(both[1]), r: on ? 7 : 5, style: `fill:var(--${on ? "c1" : "c0"});stroke:var(--ground)` });
    told(dot, () => jobs.get(job)?.name ?? `job ${job}`, () => data.searched.objectives.map((name, which) => ["", name, number(both[which])]));
    drawn.drawing.append(dot);
  }
}

/* ---- the table ---- */
function sortable() {
  const body = find("#table tbody"), heads = every("#table thead th");
  const by = (index, falling) => {
    const rows = [...body.rows].sort((a, b) => compared(a.cells[index].dataset.by, b.cells[index].dataset.by, falling));
    body.append(...rows);
    heads.forEach((head, place) => (place === index ? head.setAttribute("aria-sort", falling ? "descending" : "ascending") : head.removeAttribute("aria-sort")));
    keep("sorted", [index, falling]);
  };
  heads.forEach((head, index) => find("button", head).addEventListener("click", () => by(index, head.getAttribute("aria-sort") === "ascending")));
  const before = recalled("sorted", null);
  if (before && before[0] < heads.length) by(...before);
}
/* What is missing stands last, whichever way. */
function compared(a, b, falling) {
  if (a === "" || b === "") return (a === "") - (b === "");
  const numbers = !Number.isNaN(Number(a)) && !Number.isNaN(Number(b));
  return (falling ? -1 : 1) * (numbers ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true }));
}

/* ---- pictures ---- */
const picked = [];
function pick(button) {
  const before = picked.indexOf(button);
  if (before >= 0) picked.splice(before, 1); else picked.push(button);
  button.setAttribute("aria-pressed", String(before < 0));
  if (picked.length < 2) return;
  compare(...picked);
  for (const each of picked.splice(0)) each.setAttribute("aria-pressed", "false");
}
function compare(one, other) {
  const box = find("#compare"), [below, above] = every("img", box), names = every(".names span", box);
  [[below, one, 0], [above, other, 1]].forEach(([image, button, place]) => { image.src = find("img", button).src; names[place].textContent = find("img", button).alt; });
  cut(50);
  box.showModal();
}
function cut(percent) {
  find("#compare .two img:nth-of-type(2)").style.clipPath = `inset(0 0 0 ${percent}%)`;
  find("#compare .two i").style.left = `${percent}%`;
  find("#compare input").value = percent;
}
let flickering = null;
function flicker(on) {
  clearInterval(flickering);
  find("#flicker").setAttribute("aria-pressed", String(on));
  if (!on) { cut(50); return; }
  let turn = 0;
  flickering = setInterval(() => { turn = 1 - turn; cut(100 * turn); }, 450);
}
function comparing() {
  for (const button of every("#grid .picture")) button.addEventListener("click", () => pick(button));
  const box = find("#compare"), two = find(".two", box);
  find("input", box).addEventListener("input", (event) => { const at = event.target.value; flicker(false); cut(at); });
  const drag = (event) => { if (event.buttons || event.type === "pointerdown") { const place = two.getBoundingClientRect(); flicker(false); cut(Math.max(0, Math.min(100, (100 * (event.clientX - place.left)) / place.width))); } };
  two.addEventListener("pointerdown", drag);
  two.addEventListener("pointermove", drag);
  find("#flicker").addEventListener("click", () => flicker(find("#flicker").getAttribute("aria-pressed") !== "true"));
  find("#close").addEventListener("click", () => box.close());
  box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
  box.addEventListener("close", () => flicker(false));
}
/* Rows one key, columns another, of one prompt. */
function crossing() {
  const keys = data.keys.filter((key) => key.shown);
  if (keys.length !== 2) return;
  const kind = find("#grid-kind"), row = find("#grid-row");
  kind.append(make("option", { value: "grid" }, "prompts x adapters"), make("option", { value: "cross" }, `${keys[0].short} x ${keys[1].short}`));
  every("#grid tbody th").forEach((head, index) => row.append(make("option", { value: index }, head.innerText.replace("\n", ", "))));
  find("#grid-choice").hidden = false;
  const show = () => {
    const cross = kind.value === "cross";
    find("#grid").hidden = cross; find("#cross").hidden = !cross; find("#grid-row-label").hidden = !cross;
    if (cross) crossed(keys, row.value);
  };
  kind.addEventListener("change", show);
  row.addEventListener("change", show);
}
function crossed([down, across], row) {
  const of = (key) => [...new Set(data.jobs.map((job) => job.values[key.key] ?? "-"))].sort((a, b) => compared(a, b, false));
  const table = make("table", { class: "pictures", style: find("#grid table").getAttribute("style") });
  table.append(make("thead", {}, make("tr", {}, make("th", {}, `${down.short} \\ ${across.short}`), ...of(across).map((value) => make("th", { scope: "col" }, `${across.short} ${value}`)))));
  const body = make("tbody");
  for (const value of of(down)) {
    const line = make("tr", {}, make("th", { scope: "row" }, `${down.short} ${value}`));
    for (const other of of(across)) {
      const there = data.jobs.filter((job) => (job.values[down.key] ?? "-") === value && (job.values[across.key] ?? "-") === other);
      const cell = make("td");
      for (const job of there) {
        const found = find(`#grid .picture[data-job="${job.job}"][data-row="${row}"]`);
        if (!found) continue;
        const copy = found.cloneNode(true);
        copy.addEventListener("click", () => pick(copy));
        cell.append(copy);
      }
      if (!cell.children.length) cell.append(make("span", { class: "none" }, there.length ? "no picture" : "not tried"));
      line.append(cell);
    }
    body.append(line);
  }
  table.append(body);
  find("#cross").replaceChildren(table);
}

/* ---- all of it ---- */
const CHARTS = { against, curves, bands, parallel, importance, front };
function draw(only = null) {
  for (const place of every("[data-chart]")) if (!only || place.dataset.chart === only) CHARTS[place.dataset.chart](place);
  if (only) return;
  for (const place of every("[data-key]")) againstKey(data.keys[Number(place.dataset.key)], place);
}
function begin() {
  sortable();
  for (const button of every(".copy")) button.addEventListener("click", () => copied(button));
  const metric = find("#metric");
  if (metric) {
    for (const name of Object.keys(data.curves)) metric.append(make("option", { value: name }, name));
    const before = recalled("metric", data.relative);
    if (before in data.curves) metric.value = before;
    metric.addEventListener("change", () => { keep("metric", metric.value); draw("curves"); });
    find("#logarithmic").addEventListener("change", () => draw("curves"));
    chips();
  }
  const keys = find("#against-keys");
  if (keys) data.keys.forEach((key, index) => { if (key.shown) keys.append(make("div", {}, make("h3", {}, key.short), make("div", { class: "chart", "data-key": index }))); });
  if (find("#compare")) { comparing(); crossing(); }
  draw();
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; draw(); } });
  if (data.every) setTimeout(again, data.every * 1000);
}
/* Not while somebody compares two pictures. */
function again() {
  if (find("dialog[open]")) setTimeout(again, 1000); else location.reload();
}
function copied(button) {
  const words = button.previousElementSibling;
  const done = () => { button.textContent = "copied"; setTimeout(() => { button.textContent = "copy"; }, 1200); };
  if (navigator.clipboard) { navigator.clipboard.writeText(words.textContent).then(done, () => getSelection().selectAllChildren(words)); return; }
  getSelection().selectAllChildren(words);
}
begin();
