// What the page of a run does when something is chosen. Models of bokeh are found by their names; `facts` is what
// mimic/page.py has written beside them. Decisions are sorted by time, so that a span of time is a slice of them.
const mimicPage = (() => {
  const state = {individual: -1, hidden: new Set(), kind: "probability", waiting: false, rows: [], own: [], paint: []}
  let facts = null
  const byId = (id) => document.getElementById(id)
  // Bokeh looks through all of its models for a name: too slow for every decision.
  const known = new Map()
  function model(name) {
    if (!known.has(name)) known.set(name, Bokeh.documents[0].get_model_by_name(name))
    return known.get(name)
  }
  const has = (name) => model(name) != null
  const tables = () => ["groups_table", "people_table"].filter(has)
  const column = (name) => model("decisions").data[name]
  const text = (value) => String(value).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`)
  const count = (n) => n.toLocaleString("en-US")
  const plural = (n, word) => `${count(n)} ${word}${n == 1 ? "" : "s"}`
  const fixed = (value, digits) => Number.isFinite(value) ? value.toFixed(digits).replace("-", "−") : "–"
  const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
  const day = (ms) => {
    if (!Number.isFinite(ms)) return "–"
    const date = new Date(ms)
    return `${date.getUTCDate()} ${months[date.getUTCMonth()]} ${date.getUTCFullYear()}`
  }
  const minute = (ms) => Number.isFinite(ms) ? `${day(ms)} ${new Date(ms).toISOString().slice(11, 16)}` : ""

  const span = (first, last) => first == last ? first : `${first} to ${last}`
  const DAY = 86400000
  const whole = (ms) => facts.step_ms >= DAY ? day(ms) : minute(ms)

  // The probability of the selected choice of decision i by model k; the null comes after the models.
  const chance = (k, i) => k < facts.models.length ? column(`p${k}`)[i] : 1 / column("n")[i]
  const rank = (k, i) => k < facts.models.length ? column(`r${k}`)[i] / 2 : (column("n")[i] + 1) / 2
  const names = () => [...facts.models, facts.null]
  const chosenModel = (name) => names().indexOf(model(name).value)

  function start() {
    facts = JSON.parse(byId("facts").textContent)
    const [a, b] = [chosenModel("model"), chosenModel("other")]
    names().forEach((_, k) => { if (k != a && k != b && k != facts.models.length) state.hidden.add(k) })
    if (has("groups_table")) filterGroups()
    recolor()
    if (has("map")) { fit(); show() }
    if (has("feature")) respond()
    choose(-1)
    ease()
    // columns were laid out before the page had its width
    requestAnimationFrame(widen)
    window.addEventListener("resize", () => requestAnimationFrame(widen))
    document.body.dataset.ready = "yes"
  }

  const views = (name) => [...Bokeh.index.query((view) => view.model.name == name)]

  // For those who have no mouse: the tab key leaves a table (it went through all of its cells), and ends of the slider
  // have names.
  function ease() {
    for (const view of tables().flatMap(views)) {
      view.el.addEventListener("keydown", (event) => { if (event.key == "Tab") event.stopImmediatePropagation() }, true)
    }
    for (const view of views("time")) {
      view.shadow_el.querySelectorAll(".noUi-handle").forEach((handle, k) =>
        handle.setAttribute("aria-label", k == 0 ? "decisions from" : "decisions until"))
    }
  }

  // Of two values of a column: names by the numbers in them; those that are missing last, whichever way it is sorted.
  function compare(name, x, y) {
    const missing = (value) => value == null || Number.isNaN(value)
    if (missing(x) || missing(y)) {
      const way = views(name)[0].grid.getSortColumns()[0]?.sortAsc ? 1 : -1  // what bokeh will multiply by
      return way * (missing(x) - missing(y))
    }
    return typeof x == "number" ? (x > y) - (x < y) : String(x).localeCompare(String(y), "en", {numeric: true})
  }

  // New rows are sorted by bokeh as columns say, but not as `compare` does.
  function sortAgain(name) {
    for (const view of views(name).filter((view) => view.grid != null)) {
      const columns = view.grid.getColumns(), place = (id) => view.grid.getColumnIndex(id)
      view.data.sort(view.grid.getSortColumns().map((one) => ({sortCol: columns[place(one.columnId)], sortAsc: one.sortAsc})))
      view.grid.invalidate()
      view.updateSelection()
    }
  }

  // The columns of tables get their own widths again, in proportion, as wide as the page is.
  function widen() {
    for (const name of tables()) {
      for (const view of views(name)) {
        const widths = Object.fromEntries(model(name).columns.map((column) => [column.field, column.width]))
        view.grid.setColumns(view.grid.getColumns().map((column) => ({...column, width: widths[column.field]})))
        view.grid.autosizeColumns()
      }
    }
  }

  // ---- the table of groups
  function filterGroups() {
    const data = model("groups").data
    const words = model("groups_text").value_input.toLowerCase().split(/\s+/).filter((word) => word != "")
    const wanted = ["model", "split", "weighting"].map((name) => [name, model(`groups_${name}`).value])
    const rows = []
    for (let i = 0; i < data.model.length; i++) {
      const own = facts.group_texts.map((name) => data[name][i]).join(" ").toLowerCase()
      const fits = wanted.every(([name, value]) => value == "" || data[name][i] == value)
      if (fits && words.every((word) => own.includes(word))) rows.push(i)
    }
    model("groups_shown").indices = rows
    const {head, row, most} = facts.table_px
    model("groups_table").height = head + row * Math.min(Math.max(rows.length, 1), most)
    sortAgain("groups_table")
    byId("groups-shown").textContent = `${count(rows.length)} of ${count(data.model.length)} rows`
  }

  // ---- the map
  const range = () => has("time") ? model("time").value : [-Infinity, Infinity]
  function place(times, value) {  // the first decision at or after it
    let [low, high] = [0, times.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (times[middle] < value) low = middle + 1
      else high = middle
    }
    return low
  }

  function show() {
    const times = column("time"), who = column("who"), split = column("split"), [from, to] = range()
    const [first, last] = has("time") ? [place(times, from), place(times, to)] : [0, times.length]
    const wanted = facts.splits.indexOf(model("split").value)
    const rows = [], met = new Uint8Array(facts.individuals.length)
    for (let i = first; i < last; i++) {
      if (wanted >= 0 && split[i] != wanted) continue
      rows.push(i)
      met[who[i]] = 1
    }
    state.rows = rows
    paint()
    const n = met.reduce((sum, one) => sum + one, 0)
    const when = has("time") ? `${span(whole(from), whole(facts.step_ms >= DAY ? to - 1 : to))}: ` : ""
    byId("shown").textContent =
      `${when}${count(rows.length)} of ${plural(times.length, "decision")}, of ${plural(n, "individual")}`
  }

  // A slider moves faster than a screen: one update a frame is enough.
  function showSoon() {
    if (state.waiting) return
    state.waiting = true
    requestAnimationFrame(() => { state.waiting = false; show() })
  }

  // A unit of y over a unit of x keeps its length on paper, whatever the size of the window.
  function fit() {
    const fig = model("map"), x = model("map_x"), y = model("map_y"), [width, height] = [fig.inner_width, fig.inner_height]
    if (!(width > 0 && height > 0)) return
    const home = facts.view
    const [w, h] = [home.x[1] - home.x[0], home.y[1] - home.y[0]]
    const scale = Math.max(w / width, h * home.aspect / height)  // of x, a pixel
    const [half_x, half_y] = [scale * width / 2, scale * height / home.aspect / 2]
    const [at_x, at_y] = [(home.x[0] + home.x[1]) / 2, (home.y[0] + home.y[1]) / 2]
    x.setv({start: at_x - half_x, end: at_x + half_x, reset_start: at_x - half_x, reset_end: at_x + half_x})
    y.setv({start: at_y - half_y, end: at_y + half_y, reset_start: at_y - half_y, reset_end: at_y + half_y})
    nameScale()
    paint()
  }

  // Which pixel of the map's frame a place lies at, from the lower left, in units of 1/ratio of a pixel.
  function frame(ratio) {
    const fig = model("map"), x = model("map_x"), y = model("map_y")
    const [width, height] = [Math.round(fig.inner_width * ratio), Math.round(fig.inner_height * ratio)]
    return {width, height, x0: x.start, y0: y.start, dx: width / (x.end - x.start), dy: height / (y.end - y.start)}
  }

  // The decisions shown, and those of the chosen individual over its track, as images that lie on the frame.
  function paint() {
    const ratio = Math.min(window.devicePixelRatio || 1, 2), at = frame(ratio)
    if (!(at.width > 0 && at.height > 0)) return
    const xs = column("x"), ys = column("y"), color = state.paint, radius = state.own.length > 200 ? 2.5 : 4
    const dot = (pixels, i, size, paint) => mimicDots.disk(
      pixels, at.width, at.height, (xs[i] - at.x0) * at.dx, (ys[i] - at.y0) * at.dy, size * ratio, paint)
    model("dots_image").glyph.global_alpha = {value: state.own.length ? 0.18 : 0.9}
    lay("dots", at, (pixels) => { for (const i of state.rows) dot(pixels, i, 3, color[i]) })
    lay("own", at, (pixels) => {
      for (const i of state.own) {
        dot(pixels, i, radius + 1, 0x111111)
        dot(pixels, i, radius, color[i])
      }
    })
  }

  // Both axes change at once when a map is moved: one painting is enough, and still before the next frame.
  function paintSoon() {
    if (state.painting) return
    state.painting = true
    queueMicrotask(() => { state.painting = false; paint() })
  }

  function lay(name, at, draw) {
    const source = model(name), place = {x: [at.x0], y: [at.y0], dw: [at.width / at.dx], dh: [at.height / at.dy]}
    const old = source.data.image[0], fits = old.shape[0] == at.height && old.shape[1] == at.width
    const pixels = fits ? old : new old.constructor(at.width * at.height, [at.height, at.width])
    pixels.fill(0)
    draw(pixels)
    // Of pixels changed in place bokeh sees no change by itself, and is told.
    Object.assign(source.data, place, {image: [pixels]})
    source.change.emit()
  }

  const palettes = {probability: "viridis", lift: "differences", difference: "differences"}
  // Of the first list that has several marks within a scale.
  const logMarks = [
    [1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1],
    [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1],
    [0.9, 0.92, 0.94, 0.96, 0.98, 1],
  ]
  const liftMarks = [
    [1 / 100, 1 / 30, 1 / 10, 1 / 3, 1, 3, 10, 30, 100, 300],
    [1 / 2, 1 / 1.5, 1 / 1.2, 1, 1.2, 1.5, 2],
    [1 / 1.1, 1 / 1.05, 1 / 1.02, 1, 1.02, 1.05, 1.1],
  ]
  const steps = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50]

  function recolor() {
    const [a, b] = [chosenModel("model"), chosenModel("other")]
    if (has("map")) {
      const kind = state.kind = model("mode").value
      const n = column("time").length, value = new Float32Array(n)
      for (let i = 0; i < n; i++) {
        const p = chance(a, i)
        value[i] = kind == "probability" ? Math.log(p) : Math.log(p) - Math.log(kind == "lift" ? 1 / column("n")[i] : chance(b, i))
      }
      const [low, high] = limits(value, kind)
      model("colors").setv({palette: facts.palettes[palettes[kind]], low, high})
      model("scale_ticks").ticks = marks(low, high, kind)
      nameScale()
      const paints = facts.palettes[palettes[kind]].map(mimicDots.packed), last = paints.length - 1
      state.paint = Int32Array.from(value, (v) => Number.isNaN(v) ? 0x999999
        : paints[Math.round(last * Math.min(Math.max((v - low) / (high - low), 0), 1))])
      paint()
    }
    people(a, b)
  }

  // What the colors mean, with the letters of the models where their names are too long for the scale.
  function nameScale() {
    const told = {
      probability: (a) => `probability of the selected choice by ${a}`,
      lift: (a) => `lift of ${a} over 1/n (blue: better than chance)`,
      difference: (a, b) => `ln p by ${a} less ln p by ${b}, nats (blue: ${a} is better)`,
    }[state.kind]
    const full = told(model("model").value, model("other").value)
    model("scale").title = full.length * 6.5 < model("map").inner_width ? full : told("model A", "model B")
  }

  // Of the finite values: most of the range, symmetric where zero is the middle. Beyond it colors stay the same.
  function limits(value, kind) {
    const finite = Array.from(value).filter(Number.isFinite).map((v) => kind == "probability" ? v : Math.abs(v))
    const sorted = Float32Array.from(finite).sort()
    const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 1
    if (kind == "probability") return [Math.min(at(0.02), -0.1), 0]
    const most = Math.max(at(0.98), 1e-6)
    return [-most, most]
  }

  function marks(low, high, kind) {
    if (kind == "difference") {
      const step = steps.find((s) => high / s <= 4) ?? high
      const found = []
      for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(k * step)
      return found
    }
    const within = (v) => v >= low - 1e-9 && v <= high + 1e-9
    const lists = (kind == "probability" ? logMarks : liftMarks).map((list) => list.map(Math.log).filter(within))
    return lists.find((list) => list.length > 2) ?? lists.at(-1)
  }

  function scaleText(tick) {
    if (state.kind == "difference") return String(Number(tick.toFixed(3))).replace("-", "−")
    const value = Math.exp(tick), short = (v) => String(Number(v.toFixed(v < 2.5 ? 2 : 0)))
    if (state.kind == "lift") return value < 1 - 1e-9 ? `1/${short(1 / value)}` : `×${short(value)}`
    return String(Number(value.toPrecision(2)))
  }

  function tooltip(i) {
    const width = Math.max(...names().map((name) => name.length))
    const lines = names().map((name, k) => {
      const mark = k == chosenModel("model") ? "▸" : " "
      return `${mark}${name.padEnd(width)}  ${fixed(chance(k, i), 4).padStart(6)}  ${String(rank(k, i)).padStart(5)}`
    })
    const n = column("n")[i]
    const when = minute(column("time")[i])
    const head = facts.individuals[column("who")[i]].name + (when && `   ${when} UTC`)
    return [head, `${" ".repeat(width + 1)}       p   rank of ${n}`, ...lines].join("\n")
  }

  // The decision under a tap, among those shown; -1 where there is none within some pixels.
  function nearest(x, y) {
    const at = frame(1), [xs, ys] = [column("x"), column("y")]
    let [best, least] = [-1, 10 ** 2]
    for (const rows of [state.own, state.rows]) {
      for (const i of rows) {
        const distance = ((xs[i] - x) * at.dx) ** 2 + ((ys[i] - y) * at.dy) ** 2
        if (distance < least) [best, least] = [i, distance]
      }
    }
    return best
  }

  function tap(x, y) {
    const i = nearest(x, y)
    choose(i < 0 ? -1 : column("who")[i])
  }

  function hover(x, y, left, top) {
    const i = nearest(x, y), tip = byId("tip")
    tip.hidden = i < 0
    if (i < 0) return
    tip.textContent = tooltip(i)
    const width = model("map").inner_width
    tip.style.top = `${top + 14}px`
    tip.style.left = left < width / 2 ? `${left + 14}px` : ""
    tip.style.right = left < width / 2 ? "" : `${byId("tip").parentElement.clientWidth - left + 14}px`
  }

  // ---- the chosen individual
  const ownRows = (k) => {
    const who = column("who"), rows = []
    for (let i = 0; i < who.length; i++) if (who[i] == k) rows.push(i)
    return rows
  }

  function choose(k) {
    state.individual = k
    const name = k < 0 ? "" : facts.individuals[k].name
    if (model("individual").value != name) model("individual").value = name
    const selected = model("people").selected
    if ((selected.indices[0] ?? -1) != k) selected.indices = k < 0 ? [] : [k]
    model("clear").disabled = k < 0
    if (has("map")) own()
    panel()
  }

  function own() {
    const rows = state.own = state.individual < 0 ? [] : ownRows(state.individual)
    const pick = (name) => rows.map((i) => column(name)[i])
    const [x, y, burst] = [pick("x"), pick("y"), pick("burst")]
    const whole = {x: [], y: []}, track = {x: [], y: []}
    const add = (line, ...point) => { line.x.push(point[0]); line.y.push(point[1]) }
    for (let j = 0; j < rows.length; j++) {
      const jumps = j > 0 && !facts.view.polar && Math.abs(x[j] - x[j - 1]) > 180  // around the world
      if (jumps) add(whole, NaN, NaN)
      if (j > 0 && (jumps || burst[j] != burst[j - 1])) add(track, NaN, NaN)
      add(whole, x[j], y[j])
      add(track, x[j], y[j])
    }
    model("way").data = whole
    model("track").data = track
    model("moves").data = {ox: pick("ox"), oy: pick("oy"), sx: pick("sx"), sy: pick("sy")}
    paint()
  }

  function panel() {
    const chart = byId("individual-chart"), k = state.individual
    chart.style.display = k < 0 ? "none" : ""
    if (k < 0) {
      const how = has("map") ? "Click on a decision, or choose" : "Choose"
      byId("individual").innerHTML = `<h3>No individual chosen</h3><p class="hint">${how} an individual in the list, to
        see its ${has("map") ? "track and " : ""}figures.</p>`
      return
    }
    const one = facts.individuals[k]
    const lines = [["decisions", count(one.n)], ["split", one.split]]
    if (Number.isFinite(one.first)) lines.splice(1, 0, ["dates", span(day(one.first), day(one.last))])
    if (one.stay != null) lines.push(["share of stays", `${fixed(100 * one.stay, 1)} %`])
    const facts_rows = lines.map(([what, value]) => `<tr><th>${what}</th><td class="number">${text(value)}</td></tr>`)
    const models = names().map((name, m) => {
      const on = state.hidden.has(m) ? "" : "checked"
      return `<tr class="${m == facts.models.length ? "quiet" : ""}"><td><label><input type="checkbox" data-model="${m}" ${on}>
        <span class="swatch" style="background: ${facts.colors[m]}"></span>${text(name)}</label></td>
        <td class="number">${fixed(one.d[m] ?? -Infinity, 3)}</td><td class="number">${fixed(Math.exp(one.d[m] ?? -Infinity), 3)}</td>
        <td class="number">${fixed(Math.exp((one.d[m] ?? -Infinity) - one.d[facts.models.length]), 2)}</td></tr>`
    })
    byId("individual").innerHTML = `<h3>${text(one.name)}</h3>
      <table class="plain" id="individual-facts"><tbody>${facts_rows.join("")}</tbody></table>
      <table class="plain" id="individual-models" style="margin-top: 10px"><thead><tr><th>model</th>
      <th class="number">D, nats</th><th class="number">GMP</th><th class="number">lift</th></tr></thead>
      <tbody>${models.join("")}</tbody></table>`
    byId("individual").querySelectorAll("input").forEach((box) => box.addEventListener("change", () => {
      state.hidden[box.checked ? "delete" : "add"](Number(box.dataset.model))
      byDate()
    }))
    byDate()
  }

  // Dots are decisions. A line through hundreds of them would be a solid block: it joins means of several in a row.
  function byDate() {
    const rows = ownRows(state.individual), times = column("time")
    const x = rows.map((i, j) => facts.has_time ? times[i] : j + 1)
    const several = Math.max(1, Math.round(rows.length / 60))
    const mean = (values, j) => values.slice(j, j + several).reduce((sum, v) => sum + v, 0) / Math.min(several, values.length - j)
    names().forEach((_, m) => {
      const found = rows.map((i) => Math.log(chance(m, i))).map((v) => Number.isFinite(v) ? v : NaN)
      const y = state.hidden.has(m) ? found.map(() => NaN) : found
      const starts = x.map((_, j) => j).filter((j) => j % several == 0)
      model(`by_date_line_${m}`).data = {x: starts.map((j) => mean(x, j)), y: starts.map((j) => mean(y, j))}
      if (m == facts.models.length) return  // the null is a line
      model(`by_date_${m}`).data = {x, y}
      model(`by_date_dots_${m}`).glyph.fill_alpha = {value: several > 1 ? 0.2 : 0.9}
    })
    byId("by-date-note").textContent = several > 1 ? `Dots are decisions, lines are means of ${several} in a row.` : ""
  }

  function people(a, b) {
    const d = (one, m) => one.d[m] ?? -Infinity, last = facts.models.length
    const of = (f) => facts.individuals.map(f)
    model("people").data = {
      ...model("people").data,
      gmp: of((one) => Math.exp(d(one, a))),
      lift: of((one) => Math.exp(d(one, a) - d(one, last))),
      difference: of((one) => d(one, a) == d(one, b) ? 0 : d(one, a) - d(one, b)),
    }
    model("people_table").view.change.emit()  // new values in the same rows do not reach a table by themselves
    sortAgain("people_table")
  }

  function chooseModels() {
    for (const name of ["model", "other"]) state.hidden.delete(chosenModel(name))
    recolor()
    panel()
  }

  // ---- response curves
  function respond() {
    const feature = model("feature").value, own = facts.curves[feature]
    facts.models.forEach((name, k) => {
      const curve = own[name] ?? {x: [], y: [], low: [], high: []}
      model(`curve_${k}`).data = curve
      model(`curve_line_${k}`).visible = model(`curve_dots_${k}`).visible =
        model(`curve_item_${k}`).visible = own[name] != null
    })
    model("curves").below[0].axis_label = facts.labels[feature]
    byId("curves-note").textContent = facts.curve_notes[feature]
  }

  return {
    start, filterGroups, showSoon, show, fit, recolor, chooseModels, respond, scaleText, paintSoon, hover, tap, compare,
    chooseName: (name) => choose(facts.individuals.findIndex((one) => one.name == name)),
    chooseRow: (indices) => { const k = indices[0] ?? -1; if (k != state.individual) choose(k) },
    leave: () => { byId("tip").hidden = true },
    clear: () => choose(-1),
    showMoves: (on) => { model("moves_line").visible = on },
  }
})()
