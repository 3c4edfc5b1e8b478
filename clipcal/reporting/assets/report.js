"use strict";
(() => {
  const D = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const f32 = (text) => new Float32Array(bytes(text).buffer);
  const f64 = (text) => new Float64Array(bytes(text).buffer);
  const gaps = (values) => Array.from(values, (v) => (Number.isFinite(v) ? v : null));
  const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif';

  const short = (v) => {
    if (v == null || !Number.isFinite(v)) return "–";
    const size = Math.abs(v);
    if (size !== 0 && (size < 1e-4 || size >= 1e6)) return v.toExponential(1).replace(".0e", "e").replace("e+", "e");
    return String(Number(v.toPrecision(3)));
  };
  const count = (v) => Number(v).toLocaleString("en-US");
  const percent = (v) => (v == null ? "–" : short(100 * v) + "%");

  const element = (tag, className, text) => {
    const e = document.createElement(tag);
    if (className) e.className = className;
    if (text != null) e.textContent = text;
    return e;
  };

  // What the colours of a chart stand for: [colour, words, kind of mark].
  const key = (items) => {
    const box = element("div", "key");
    for (const [name, words, kind] of items) {
      const item = element("span");
      const mark = element("i", kind || "");
      mark.style.background = name.startsWith("#") || name.startsWith("rgb") ? name : colour(name);
      item.append(mark, words);
      box.append(item);
    }
    return box;
  };

  // Round numbers on a log axis, as many as there is room for.
  const logTicks = (low, high, most) => {
    const within = (digits) => {
      const found = [];
      for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
        for (const d of digits) {
          const v = Number(`${d}e${e}`);
          if (v >= low && v <= high) found.push(v);
        }
      return found;
    };
    if (high / low < 6) {
      for (const step of [0.05, 0.1, 0.2, 0.5, 1, 2].map((s) => s * 10 ** Math.floor(Math.log10(low)))) {
        const found = [];
        for (let i = Math.ceil(low / step); i * step <= high; i++) found.push(Number((i * step).toPrecision(12)));
        if (found.length >= 2 && found.length <= most) return found;
      }
    }
    for (const digits of [[1, 2, 5], [1, 3], [1]]) {
      const found = within(digits);
      if (found.length <= most) return found;
    }
    const decades = within([1]);
    const skip = Math.ceil(decades.length / Math.max(most, 2));
    return decades.filter((_, i) => i % skip === 0);
  };

  const logScale = (range) => ({ distr: 3, log: 10, range: () => range, time: false });
  const axis = (more) =>
    Object.assign(
      {
        stroke: colour("soft"),
        font: FONT,
        labelFont: FONT,
        grid: { stroke: colour("grid"), width: 1 },
        ticks: { stroke: colour("line"), width: 1, size: 4 },
        gap: 4,
      },
      more,
    );
  const logAxis = (more, space) =>
    axis(
      Object.assign(
        {
          splits: (u, i, low, high) => {
            const along = u.axes[i].side % 2 ? u.bbox.height : u.bbox.width;
            return logTicks(low, high, Math.max(Math.floor(along / devicePixelRatio / (space || 28)), 2));
          },
          values: (u, splits) => splits.map(short),
          filter: (u, splits) => splits,
        },
        more,
      ),
    );
  const stepAxis = (more) =>
    axis(Object.assign({ values: (u, splits) => splits.map((v) => (Number.isInteger(v) ? count(v) : "")), size: 30 }, more));

  const lossScale = (r) => (r.log ? logScale(r.range) : { range: () => r.range });
  const lossAxis = (r, narrow) => {
    const more = { label: narrow ? undefined : "loss", labelSize: 18, size: 48 };
    return r.log ? logAxis(more) : axis(Object.assign(more, { values: (u, s) => s.map(short), space: 30 }));
  };

  // Things that are drawn by hand, in the pixels of the canvas.
  const bar = (u, x0, x1, y0, y1, fill) => {
    const { left, top, width, height } = u.bbox;
    const a = Math.max(x0 == null ? left : x0, left);
    const b = Math.min(x1 == null ? left + width : x1, left + width);
    const c = Math.max(y0 == null ? top : y0, top);
    const d = Math.min(y1 == null ? top + height : y1, top + height);
    if (b <= a || d <= c) return;
    u.ctx.fillStyle = fill;
    u.ctx.fillRect(a, c, b - a, d - c);
  };
  const rule = (u, x0, y0, x1, y1, stroke, dash, width) => {
    const c = u.ctx;
    c.save();
    c.strokeStyle = stroke;
    c.lineWidth = (width || 1.5) * devicePixelRatio;
    c.setLineDash((dash || []).map((d) => d * devicePixelRatio));
    c.beginPath();
    c.moveTo(x0, y0);
    c.lineTo(x1, y1);
    c.stroke();
    c.restore();
  };
  const words = (u, text, x, y, fill, align) => {
    const c = u.ctx;
    c.save();
    c.font = FONT.replace("12px", `${12 * devicePixelRatio}px`);
    c.textAlign = align || "left";
    c.textBaseline = "middle";
    c.lineJoin = "round";
    c.lineWidth = 4 * devicePixelRatio;
    c.strokeStyle = colour("ground");
    c.strokeText(text, x, y);
    c.fillStyle = fill;
    c.fillText(text, x, y);
    c.restore();
  };
  const inside = (u, draw) => {
    const c = u.ctx;
    c.save();
    c.beginPath();
    c.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    c.clip();
    draw();
    c.restore();
  };
  // Labels of horizontal lines, above each other: beside the plot where there is room, otherwise at its right edge.
  const MARGIN = 128;
  const stack = (u, labels, beside) => {
    const room = 15 * devicePixelRatio;
    labels.sort((a, b) => a.y - b.y);
    for (let i = 1; i < labels.length; i++) labels[i].y = Math.max(labels[i].y, labels[i - 1].y + room);
    const bottom = u.bbox.top + u.bbox.height - room / 2;
    for (let i = labels.length - 1, most = bottom; i >= 0; i--, most -= room) labels[i].y = Math.min(labels[i].y, most);
    const edge = u.bbox.left + u.bbox.width;
    for (const l of labels) words(u, l.text, edge + (beside ? 6 : -6) * devicePixelRatio, l.y, l.fill, beside ? "left" : "right");
  };
  // Labels of vertical lines, each in a row of its own.
  const rows = (u, labels) => {
    const room = 15 * devicePixelRatio;
    labels.sort((a, b) => a.x - b.x);
    labels.forEach((l, i) => {
      const right = l.x > u.bbox.left + u.bbox.width * 0.6;
      const gap = (right ? -5 : 5) * devicePixelRatio;
      words(u, l.text, l.x + gap, u.bbox.top + room * (0.6 + i), l.fill, right ? "right" : "left");
    });
  };

  const charts = [];
  const plot = (place, options, data, now) => {
    const box = element("div");
    place.append(box);
    const width = Math.max(Math.floor(place.clientWidth), 200);
    const u = new uPlot(
      Object.assign({ width, legend: { show: false }, padding: [8, 10, 0, 0] }, options, {
        cursor: Object.assign({ points: { size: 7, fill: colour("ground") } }, options.cursor),
      }),
      data,
      box,
    );
    charts.push([u, place, options.height]);
    if (now) place.append(now);
    return u;
  };

  const drawers = {
    course(place) {
      const c = D.course;
      const steps = typeof c.steps === "string" ? Array.from(f64(c.steps)) : Array.from({ length: c.steps[2] }, (_, i) => c.steps[0] + i * c.steps[1]);
      const norms = gaps(f32(c.norms));
      const losses = c.losses ? gaps(f32(c.losses)) : null;
      const level = new Array(steps.length).fill(null);
      c.levelRows.forEach((row, i) => (level[row] = c.level[i]));
      const items = [["norm", c.unit]];
      if (c.levelRows.length) items.push(["level", "local level of stable steps"]);
      if (c.maxNorm != null) items.push(["threshold", `${D.label} ${short(c.maxNorm)}`]);
      if (c.interval) items.push(["interval", "its interval", "area"]);
      if (c.corridor) items.push(["corridor", "corridor", "area"]);
      if (c.spikes.length) items.push(["spike", "spikes", "dot"]);
      if (losses) items.push(["loss", "loss"]);
      place.append(key(items));
      const now = element("div", "now");
      const narrow = place.clientWidth < 560;
      const range = c.range || [0.1, 10];
      const spike = new Set(c.spikes);
      const broken = new Set(c.nonfinite);
      const tell = (u) => {
        const i = u.cursor.idx;
        if (i == null) return (now.textContent = "");
        const what = broken.has(i) ? ": norm not finite" : `: norm ${short(norms[i])}`;
        const loss = losses ? `, loss ${short(losses[i])}` : "";
        now.textContent = `step ${count(steps[i])}${what}${loss}${spike.has(i) ? ", a spike" : ""}`;
      };
      const shade = (u) =>
        inside(u, () => {
          const at = (v) => u.valToPos(v, "x", true);
          if (c.firstStable != null && c.firstStable > steps[0]) bar(u, null, at(c.firstStable), null, null, colour("shade"));
          if (c.lastHealthy != null) bar(u, at(c.lastHealthy), null, null, null, colour("shade"));
        });
      const under = (u) => {
        shade(u);
        const y = (v) => (v == null ? null : u.valToPos(v, "y", true));
        inside(u, () => {
          if (c.corridor) bar(u, null, null, y(c.corridor[1]), y(c.corridor[0]), colour("corridor"));
          if (c.interval) bar(u, null, null, y(c.interval[1]), y(c.interval[0]), colour("interval"));
        });
      };
      const over = (u) => {
        const { left, top, width, height } = u.bbox;
        const labels = [];
        const level_at = (value, name, text, dash) => {
          if (value == null) return;
          const y = u.valToPos(value, "y", true);
          if (y < top || y > top + height) return;
          rule(u, left, y, left + width, y, colour(name), dash, 1.5);
          labels.push({ y: y - (narrow ? 8 * devicePixelRatio : 0), text: `${text} ${short(value)}`, fill: colour(name) });
        };
        inside(u, () => {
          u.ctx.fillStyle = colour("spike");
          for (const row of c.spikes) {
            if (norms[row] == null) continue;
            u.ctx.beginPath();
            u.ctx.arc(u.valToPos(steps[row], "x", true), u.valToPos(norms[row], "y", true), (c.spikes.length > 400 ? 2 : 3.2) * devicePixelRatio, 0, 7);
            u.ctx.fill();
          }
        });
        const first = u.scales.x.min, last = u.scales.x.max;
        const crosses = c.nonfinite.filter((row) => steps[row] >= first && steps[row] <= last);
        for (const row of crosses.slice(0, 500)) words(u, "×", u.valToPos(steps[row], "x", true), top + 7 * devicePixelRatio, colour("spike"), "center");
        for (const row of c.zeros.slice(0, 500)) if (steps[row] >= first && steps[row] <= last) words(u, "0", u.valToPos(steps[row], "x", true), top + height - 7 * devicePixelRatio, colour("spike"), "center");
        level_at(c.median, "median", "stable median", [2, 3]);
        level_at(c.guard, "soft", "guard", [1, 4]);
        level_at(c.inUse, "use", "in use", [8, 3]);
        level_at(c.maxNorm, "threshold", D.label, [6, 4]);
        stack(u, labels, !narrow);
        const at = (v) => u.valToPos(v, "x", true);
        const near = (x) => x > left && x < left + width;
        if (c.firstStable != null && c.firstStable > steps[0] && near(at(c.firstStable))) words(u, "warm-up", Math.max(at(c.firstStable) - 4 * devicePixelRatio, left + 56 * devicePixelRatio), top + height - 9 * devicePixelRatio, colour("soft"), "right");
        if (c.lastHealthy != null && near(at(c.lastHealthy))) words(u, "runs away", at(c.lastHealthy) + 4 * devicePixelRatio, top + height - 9 * devicePixelRatio, colour("soft"));
      };
      const cursor = { sync: { key: "course", scales: ["x", null] }, drag: { x: true, y: false } };
      const lone = steps.length === 1 ? { range: () => [steps[0] - 1, steps[0] + 1] } : {};
      const padding = [8, narrow ? 10 : MARGIN, 0, 0];
      plot(
        place,
        {
          height: narrow ? 260 : 320,
          padding,
          cursor,
          scales: { x: { time: false, ...lone }, y: logScale(range) },
          axes: [stepAxis(losses ? { values: (u, s) => s.map(() => ""), size: 8 } : { label: "optimizer step", labelSize: 18 }), logAxis({ label: narrow ? undefined : c.unit, labelSize: 18, size: 48 })],
          series: [{}, { stroke: colour("norm"), alpha: steps.length > 3000 ? 0.6 : 1, width: steps.length > 3000 ? 1 : 1.25, points: { show: steps.length < 60, size: 4 } }, { stroke: colour("level"), width: 1.5, spanGaps: true, points: { show: false } }],
          hooks: { drawClear: [under], draw: [over], setCursor: [tell] },
        },
        [steps, norms, level],
      );
      if (losses)
        plot(
          place,
          {
            height: narrow ? 150 : 180,
            padding,
            cursor,
            scales: { x: { time: false, ...lone }, y: lossScale(c.lossRange) },
            axes: [stepAxis({ label: "optimizer step", labelSize: 18 }), lossAxis(c.lossRange, narrow)],
            series: [{}, { stroke: colour("loss"), width: steps.length > 3000 ? 1 : 1.25, points: { show: steps.length < 60, size: 4 } }],
            hooks: { drawClear: [shade] },
          },
          [steps, losses],
        );
      place.append(now);
    },

    distribution(place) {
      const d = D.distribution;
      const mids = d.stable.map((_, i) => Math.sqrt(d.edges[i] * d.edges[i + 1]));
      const all = d.stable.map((v, i) => v + d.spikes[i] + d.others[i]);
      const items = [];
      if (d.stable.some((v) => v)) items.push(["norm", "stable steps", "area"]);
      if (d.others.some((v) => v)) items.push(["rule", d.stable.some((v) => v) ? "warm-up and others" : "steps", "area"]);
      if (d.spikes.some((v) => v)) items.push(["spike", "spikes", "area"]);
      if (d.marks.some((m) => m.kind === "rule")) items.push(["soft", "▾ rules that others use"]);
      place.append(key(items));
      const now = element("div", "now");
      const bars = (u) =>
        inside(u, () => {
          const zero = u.valToPos(0, "y", true);
          for (let i = 0; i < all.length; i++) {
            const a = u.valToPos(d.edges[i], "x", true);
            const b = u.valToPos(d.edges[i + 1], "x", true);
            let base = zero;
            for (const [part, name] of [[d.stable, "norm"], [d.others, "rule"], [d.spikes, "spike"]]) {
              if (!part[i]) continue;
              // at least two pixels, since spikes are few
              const tall = Math.max(zero - u.valToPos(part[i], "y", true), 2 * devicePixelRatio);
              bar(u, a, b - Math.min(devicePixelRatio, (b - a) / 4), base - tall, base, colour(name));
              base -= tall;
            }
          }
        });
      const over = (u) => {
        const { left, top, width, height } = u.bbox;
        const labels = [];
        for (const m of d.marks) {
          const x = u.valToPos(m.value, "x", true);
          if (x < left || x > left + width) continue;
          if (m.kind === "rule") {
            words(u, "▾", x, top + height - 5 * devicePixelRatio, colour("soft"), "center");
            continue;
          }
          const name = m.kind === "chosen" ? "threshold" : m.kind === "in use" ? "use" : "soft";
          rule(u, x, top, x, top + height, colour(name), m.kind === "candidate" ? [2, 3] : [6, 4], m.kind === "candidate" ? 1.2 : 1.8);
          labels.push({ x, text: `${m.name} ${short(m.value)}`, fill: colour(name) });
        }
        rows(u, labels);
      };
      const tell = (u) => {
        const i = u.cursor.idx;
        if (i == null) return (now.textContent = "");
        const near = d.marks.filter((m) => m.value >= d.edges[i] && m.value <= d.edges[i + 1]).map((m) => `${m.name} ${short(m.value)}`);
        now.textContent = `${short(d.edges[i])} to ${short(d.edges[i + 1])}: ${count(all[i])} steps${d.spikes[i] ? `, ${count(d.spikes[i])} of them spikes` : ""}${near.length ? ` (${near.join(", ")})` : ""}`;
      };
      plot(
        place,
        {
          height: 260,
          cursor: { drag: { x: false, y: false } },
          scales: { x: logScale([d.edges[0], d.edges[d.edges.length - 1]]), y: { range: (u, low, high) => [0, Math.max(high, 1) * 1.08] } },
          axes: [logAxis({ size: 30, label: D.course.unit, labelSize: 18 }, 48), axis({ size: 48, values: (u, s) => s.map((v) => (Number.isInteger(v) ? count(v) : "")) })],
          series: [{}, { paths: () => null, points: { show: false } }],
          hooks: { drawAxes: [bars], draw: [over], setCursor: [tell] },
        },
        [mids, all],
        now,
      );
    },

    share(place) {
      const s = D.share;
      const items = [["norm", s.isStable ? "stable steps clipped" : "steps clipped"]];
      if (s.spikes) items.push(["spike", "spikes clipped"]);
      items.push(["loss", "mean scale left"]);
      if (s.corridor) items.push(["corridor", "corridor", "area"]);
      place.append(key(items));
      const now = element("div", "now");
      const under = (u) => {
        if (s.corridor) inside(u, () => bar(u, s.corridor[0] == null ? null : u.valToPos(s.corridor[0], "x", true), s.corridor[1] == null ? null : u.valToPos(s.corridor[1], "x", true), null, null, colour("corridor")));
      };
      const over = (u) => {
        const { left, top, width, height } = u.bbox;
        const labels = [];
        for (const m of s.marks) {
          const x = u.valToPos(m.value, "x", true);
          if (m.kind === "rule" || x < left || x > left + width) continue;
          const name = m.kind === "chosen" ? "threshold" : m.kind === "in use" ? "use" : "soft";
          rule(u, x, top, x, top + height, colour(name), m.kind === "candidate" ? [2, 3] : [6, 4], m.kind === "candidate" ? 1.2 : 1.8);
          labels.push({ x, text: `${m.name} ${short(m.value)}`, fill: colour(name) });
        }
        rows(u, labels);
      };
      const tell = (u) => {
        const i = u.cursor.idx;
        if (i == null) return (now.textContent = "");
        const spikes = s.spikes ? `, ${percent(s.spikes[i])} of the spikes` : "";
        now.textContent = `${D.label} ${short(s.thresholds[i])} clips ${percent(s.stable[i])} of the steps${spikes}, and leaves ${percent(s.scale[i])} of the rate`;
      };
      const line = (name, dash) => ({ stroke: colour(name), width: 2, dash, points: { show: false } });
      plot(
        place,
        {
          height: 260,
          cursor: { drag: { x: false, y: false } },
          scales: { x: logScale([s.thresholds[0], s.thresholds[s.thresholds.length - 1]]), y: { range: [0, 1.02] } },
          axes: [logAxis({ size: 30, label: D.label, labelSize: 18 }, 48), axis({ size: 48, values: (u, v) => v.map((x) => Math.round(100 * x) + "%") })],
          series: [{}, line("norm"), line("loss", [6, 3]), ...(s.spikes ? [line("spike")] : [])],
          hooks: { drawClear: [under], draw: [over], setCursor: [tell] },
        },
        [s.thresholds, s.stable, s.scale, ...(s.spikes ? [s.spikes] : [])],
        now,
      );
    },

    harm(place) {
      const d = D.harm;
      const norms = Array.from(f32(d.norms));
      const changes = Array.from(f32(d.changes));
      const sorted = changes.slice().sort((a, b) => a - b);
      const cut = (q) => sorted[Math.min(Math.floor(q * sorted.length), sorted.length - 1)];
      const middle = cut(0.5);
      const reach = Math.max(cut(0.99) - middle, middle - cut(0.01), 1e-6) * 1.6;
      const low = Math.max(sorted[0], middle - reach), high = Math.min(sorted[sorted.length - 1], middle + reach);
      const items = [["norm", "a step", "dot"]];
      if (d.above != null) items.push(["spike", "median above"], ["level", "median below"]);
      if (d.maxNorm != null) items.push(["threshold", `${D.label} ${short(d.maxNorm)}`]);
      place.append(key(items));
      const now = element("div", "now");
      const written = (v) => (d.isRelative ? `${v > 0 ? "+" : ""}${percent(v)}` : `${v > 0 ? "+" : ""}${short(v)}`);
      const points = (u) =>
        inside(u, () => {
          u.ctx.fillStyle = colour("norm");
          u.ctx.globalAlpha = norms.length > 800 ? 0.35 : 0.6;
          const size = (norms.length > 800 ? 1.8 : 2.4) * devicePixelRatio;
          for (let i = 0; i < norms.length; i++) {
            u.ctx.beginPath();
            u.ctx.arc(u.valToPos(norms[i], "x", true), Math.min(Math.max(u.valToPos(changes[i], "y", true), u.bbox.top + size), u.bbox.top + u.bbox.height - size), size, 0, 7);
            u.ctx.fill();
          }
          u.ctx.globalAlpha = 1;
        });
      const over = (u) => {
        const { left, top, width, height } = u.bbox;
        inside(u, () => {
          const zero = u.valToPos(0, "y", true);
          rule(u, left, zero, left + width, zero, colour("soft"), [2, 3], 1);
          if (d.threshold != null) {
            const x = u.valToPos(d.threshold, "x", true);
            rule(u, left, u.valToPos(d.below, "y", true), x, u.valToPos(d.below, "y", true), colour("level"), [], 2.5);
            rule(u, x, u.valToPos(d.above, "y", true), left + width, u.valToPos(d.above, "y", true), colour("spike"), [], 2.5);
          }
          if (d.maxNorm != null) {
            const x = u.valToPos(d.maxNorm, "x", true);
            rule(u, x, top, x, top + height, colour("threshold"), [6, 4], 1.8);
          }
        });
      };
      const tell = (u) => {
        const i = u.cursor.idx;
        now.textContent = i == null ? "" : `norm ${short(norms[i])}: loss ${written(changes[i])}`;
      };
      const room = Math.pow(norms[norms.length - 1] / norms[0], 0.03) * 1.02;
      plot(
        place,
        {
          height: 260,
          cursor: { drag: { x: false, y: false } },
          scales: { x: logScale([norms[0] / room, norms[norms.length - 1] * room]), y: { range: () => [low - 0.05 * (high - low), high + 0.05 * (high - low)] } },
          axes: [logAxis({ size: 30, label: D.course.unit, labelSize: 18 }, 48), axis({ size: 56, values: (u, v) => v.map((x) => (d.isRelative ? `${x > 0 ? "+" : ""}${percent(x)}` : short(x))) })],
          series: [{}, { paths: () => null, points: { show: false } }],
          hooks: { drawAxes: [points], draw: [over], setCursor: [tell] },
        },
        [norms, changes],
        now,
      );
    },

    heat(place) {
      const d = D.heat;
      const cells = bytes(d.cells);
      const columns = d.first.length;
      const bar_ = element("div", "key");
      const ramp = element("span", "scale");
      ramp.style.background = `linear-gradient(90deg, rgba(${colour("cold")}, 0.7), transparent 30%, rgba(${colour("heat")}, 1))`;
      const said = element("span");
      said.append("an eighth of the usual", ramp, "32 times");
      bar_.append(said);
      place.append(bar_);
      const map = element("div", "map");
      const canvas = element("canvas");
      canvas.width = columns;
      canvas.height = d.names.length;
      const ctx = canvas.getContext("2d");
      const paint = ctx.createImageData(columns, d.names.length);
      const [hot, cold] = ["heat", "cold"].map((n) => colour(n).split(",").map(Number));
      for (let i = 0; i < cells.length; i++) {
        const rise = cells[i] === 255 ? null : (cells[i] - 60) / 20;
        const tint = rise != null && rise > 0 ? hot : cold;
        const alpha = rise == null ? 0 : rise > 0 ? Math.min(rise / 5, 1) : Math.min(-rise / 3, 0.7);
        paint.data.set([tint[0], tint[1], tint[2], Math.round(255 * alpha)], 4 * i);
      }
      ctx.putImageData(paint, 0, 0);
      const now = element("div", "now");
      d.names.forEach((name, i) => {
        const layer = element("span", "layer", "\u200e" + name);
        layer.title = name;
        map.append(layer, element("span", "part", percent(d.shares[i]).replace(/\.\d+%/, "%")));
      });
      map.append(canvas);
      const span = element("div", "steps");
      span.append(element("span", "", `step ${count(d.first[0])}`), element("span", "", count(d.last)));
      map.append(span);
      canvas.addEventListener("mousemove", (e) => {
        const box = canvas.getBoundingClientRect();
        const x = Math.min(Math.floor(((e.clientX - box.left) / box.width) * columns), columns - 1);
        const y = Math.min(Math.floor(((e.clientY - box.top) / box.height) * d.names.length), d.names.length - 1);
        if (x < 0 || y < 0) return;
        const cell = cells[y * columns + x];
        const until = x + 1 < columns ? d.first[x + 1] - 1 : d.last;
        const when = until > d.first[x] ? `steps ${count(d.first[x])} to ${count(until)}` : `step ${count(d.first[x])}`;
        now.textContent = `${d.names[y]}, ${when}: ${cell === 255 ? "no gradient" : (cell >= 254 ? "over " : "") + short(2 ** ((cell - 60) / 20)) + " x its usual norm"}`;
      });
      canvas.addEventListener("mouseleave", () => (now.textContent = ""));
      place.append(map, now);
    },

    arms(place) {
      const d = D.arms;
      const chosen = `max_norm=${short(d.maxNorm)}`;
      const palette = {};
      let next = 2;
      for (const name of d.names) palette[name] = colour("a" + (name === "unclipped" ? 0 : name === chosen ? 1 : Math.min(next++, 7)));
      place.append(key(d.names.map((name) => [palette[name], name])));
      const now = element("div", "now");
      const curves = d.curves.map((c) => ({ name: c.name, seed: c.seed, lostAt: c.lostAt, steps: Array.from(f64(c.steps)), losses: gaps(f32(c.losses)), norms: gaps(f32(c.norms)) }));
      const narrow = place.clientWidth < 560;
      const chart = (field, label, log, height, last) => {
        const joined = uPlot.join(curves.map((c) => [c.steps, c[field]]));
        const shown = curves.flatMap((c) => c.norms.filter((v) => v > 0)).sort((a, b) => a - b);
        const scale = log ? logScale([shown[0] / 1.15, Math.min(shown[shown.length - 1], 100 * shown[Math.floor(0.9 * shown.length)]) * 1.3]) : lossScale(d.lossRange);
        const lost = (u) => {
          const seen = {};
          for (const c of curves) {
            if (c.lostAt == null) continue;
            const x = u.valToPos(c.lostAt, "x", true);
            if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) continue;
            seen[c.name] = true;
            words(u, "×", x, u.bbox.top + (8 + 12 * (d.names.indexOf(c.name) % 4)) * devicePixelRatio, palette[c.name], "center");
          }
          if (Object.keys(seen).length) words(u, "× lost", u.bbox.left + u.bbox.width - 6 * devicePixelRatio, u.bbox.top + u.bbox.height - 9 * devicePixelRatio, colour("soft"), "right");
        };
        const tell = (u) => {
          const i = u.cursor.idx;
          if (i == null) return (now.textContent = "");
          const means = d.names.map((name) => {
            const values = curves.map((c, k) => (c.name === name ? joined[k + 1][i] : null)).filter((v) => v != null).sort((a, b) => a - b);
            return values.length ? `${name} ${short(values[Math.floor(values.length / 2)])}` : null;
          });
          now.textContent = `step ${count(joined[0][i])}, ${label}: ${means.filter((m) => m).join(", ")}`;
        };
        plot(
          place,
          {
            height,
            cursor: { sync: { key: "arms", scales: ["x", null] }, drag: { x: true, y: false } },
            scales: { x: { time: false }, y: scale },
            axes: [stepAxis(last ? { label: "optimizer step", labelSize: 18 } : { values: (u, s) => s.map(() => ""), size: 8 }), log ? logAxis({ label: narrow ? undefined : label, labelSize: 18, size: 48 }) : lossAxis(d.lossRange, narrow)],
            series: [{}, ...curves.map((c) => ({ stroke: palette[c.name], alpha: log ? 0.6 : 1, width: log ? 0.8 : c.name === chosen ? 1.6 : 1, spanGaps: true, points: { show: false } }))],
            hooks: { draw: [lost], setCursor: [tell] },
          },
          joined,
        );
      };
      chart("losses", "loss", false, narrow ? 220 : 260, false);
      if (curves.some((c) => c.norms.some((v) => v > 0))) chart("norms", D.course.unit, true, narrow ? 180 : 220, true);
      place.append(now);
    },
  };

  const draw = () => {
    while (charts.length) charts.pop()[0].destroy();
    for (const [name, drawer] of Object.entries(drawers)) {
      const place = document.getElementById(name);
      if (!place || !D[name]) continue;
      place.replaceChildren();
      drawer(place);
    }
  };
  draw();

  let width = innerWidth, waiting = 0;
  addEventListener("resize", () => {
    if (innerWidth === width) return; // a phone's bars come and go
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(() => charts.forEach(([u, place, height]) => u.setSize({ width: Math.max(Math.floor(place.clientWidth), 200), height })), 120);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("beforeprint", () => (root.classList.add("paper"), draw()));
  addEventListener("afterprint", () => (root.classList.remove("paper"), draw()));

  const chosen = document.getElementById("framework");
  if (chosen) {
    chosen.addEventListener("change", () => {
      for (let i = 0; i < chosen.options.length; i++) document.getElementById(`snippet-${i}`).hidden = String(i) !== chosen.value;
    });
    const copy = document.getElementById("copy");
    copy.addEventListener("click", async () => {
      const code = document.getElementById(`snippet-${chosen.value}`);
      let done = true;
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        // a page from a file may not write to the clipboard everywhere
        const selection = getSelection();
        selection.selectAllChildren(code);
        done = document.execCommand("copy");
      }
      copy.textContent = done ? "Copied" : "Press Ctrl-C";
      setTimeout(() => (copy.textContent = "Copy"), 1600);
    });
  }
})();
