package interop

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
)

// picture is a small picture, red above and blue below, for avatars and files.
func picture() []byte {
	img := image.NewRGBA(image.Rect(0, 0, 64, 64))
	for y := range 64 {
		for x := range 64 {
			img.Set(x, y, color.RGBA{R: uint8(255 - 4*y), B: uint8(4 * y), A: 255})
		}
	}
	var b bytes.Buffer
	png.Encode(&b, img)
	return b.Bytes()
}
