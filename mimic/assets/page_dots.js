// Dots into the pixels of an image. Fifty thousand markers of WebGL take seconds where there is no graphics card (they
// are drawn one by one); stamping them into an array takes some milliseconds anywhere, at every step of a slider.
const mimicDots = (() => {
  const OPAQUE = 0xff000000
  const stamps = new Map()

  // The pixels of a disk as columns, rows and coverage (1 to 256) from its center; those of its smooth edge come last.
  function stamp(radius) {
    if (!stamps.has(radius)) {
      const found = [], reach = Math.ceil(radius + 0.5)
      for (let dy = -reach; dy <= reach; dy++) {
        for (let dx = -reach; dx <= reach; dx++) {
          const cover = Math.min(Math.max(radius + 0.5 - Math.hypot(dx, dy), 0), 1)
          if (cover > 0.05) found.push([dx, dy, Math.round(256 * cover)])
        }
      }
      found.sort((a, b) => b[2] - a[2])
      const column = (k) => Int32Array.from(found, (row) => row[k])
      stamps.set(radius, {dx: column(0), dy: column(1), cover: column(2), reach})
    }
    return stamps.get(radius)
  }

  // A color (0xBBGGRR) that covers a part of a pixel (0xAABBGGRR), in 256ths.
  function over(below, color, cover) {
    if (below == 0) return ((cover - 1 << 24) | color) >>> 0
    const rest = 256 - cover
    const red_blue = ((color & 0xff00ff) * cover + (below & 0xff00ff) * rest) / 256 & 0xff00ff
    const green = ((color & 0xff00) * cover + (below & 0xff00) * rest) / 256 & 0xff00
    const alpha = cover + (below >>> 24) * rest / 256
    return ((Math.min(alpha, 255) << 24) | red_blue | green) >>> 0
  }

  // A dot around the pixel (x, y), counted from the lower left, in an image of a width and a height.
  function disk(pixels, width, height, x, y, radius, color) {
    const {dx, dy, cover, reach} = stamp(radius)
    const column = Math.round(x), row = Math.round(y)
    if (!(column >= -reach && row >= -reach && column < width + reach && row < height + reach)) return
    const inside = column >= reach && row >= reach && column < width - reach && row < height - reach
    for (let k = 0; k < dx.length; k++) {
      const i = column + dx[k], j = row + dy[k]
      if (!inside && (i < 0 || j < 0 || i >= width || j >= height)) continue
      const at = j * width + i
      pixels[at] = cover[k] == 256 ? (OPAQUE | color) >>> 0 : over(pixels[at], color, cover[k])
    }
  }

  // "#rrggbb" as 0xBBGGRR, the order of an image's bytes.
  const packed = (hex) => {
    const value = parseInt(hex.slice(1), 16)
    return ((value & 255) << 16) | (value & 0xff00) | (value >> 16)
  }

  return {disk, packed}
})()
