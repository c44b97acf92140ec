package counter

// crc16 is the checksum of Modbus RTU: polynomial A001 reflected, from FFFF
// (MODBUS over Serial Line V1.02, §6.2.2). It is sent low byte first.
func crc16(b []byte) uint16 {
	crc := uint16(0xFFFF)
	for _, x := range b {
		crc ^= uint16(x)
		for range 8 {
			odd := crc & 1
			crc >>= 1
			if odd == 1 {
				crc ^= 0xA001
			}
		}
	}
	return crc
}

// crcCCITT is CRC-16/IBM-3740, which manuals call CCITT: polynomial 1021, from
// FFFF.
func crcCCITT(b []byte) uint16 {
	crc := uint16(0xFFFF)
	for _, x := range b {
		crc ^= uint16(x) << 8
		for range 8 {
			high := crc & 0x8000
			crc <<= 1
			if high != 0 {
				crc ^= 0x1021
			}
		}
	}
	return crc
}

func sum8(b []byte) (sum byte) {
	for _, x := range b {
		sum += x
	}
	return sum
}

func xor8(b []byte) (sum byte) {
	for _, x := range b {
		sum ^= x
	}
	return sum
}
