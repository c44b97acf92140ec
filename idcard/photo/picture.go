package photo

import (
	"bytes"
	"errors"
	"fmt"
	"image/png"

	"golang.org/x/image/bmp"
)

// longestSide bounds a picture in pixels. That of a card is 102 wide and 126
// high; a decoder may give it enlarged.
const longestSide = 1024

// toPNG makes a PNG of a BMP with 8, 24 or 32 bits a pixel.
func toPNG(text []byte) ([]byte, error) {
	if len(text) == 0 {
		return nil, trouble(badPicture, errors.New("decode picture: the decoder gave nothing"))
	}
	head, err := bmp.DecodeConfig(bytes.NewReader(text))
	if err != nil {
		return nil, trouble(badPicture, fmt.Errorf("decode picture: no BMP of a known kind: %w", err))
	}
	if head.Width < 1 || head.Height < 1 || head.Width > longestSide || head.Height > longestSide {
		return nil, trouble(badPicture, fmt.Errorf("decode picture: %d by %d pixels", head.Width, head.Height))
	}
	picture, err := bmp.Decode(bytes.NewReader(text))
	if err != nil {
		return nil, trouble(badPicture, fmt.Errorf("decode picture: %w", err))
	}
	var out bytes.Buffer
	if err := png.Encode(&out, picture); err != nil {
		return nil, trouble(badPicture, fmt.Errorf("encode picture: %w", err))
	}
	return out.Bytes(), nil
}
