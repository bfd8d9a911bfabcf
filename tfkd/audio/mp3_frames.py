"""How much audio lies in the frames of an MP3, by their headers alone."""

from __future__ import annotations

# ISO/IEC 11172-3, 2.4.2.3, and 13818-3 (half and quarter rates).
_RATES_HZ = (44_100, 48_000, 32_000)
_FIRST_KILOBITS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_SECOND_KILOBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def samples_in_frames(data: bytes) -> int:
    """Samples a channel of the frames of MPEG audio layer III in `data`; tags are passed over."""
    total = 0
    place = data.find(b"\xff")
    while place >= 0:
        length, samples = _frame(data[place : place + 4])
        following = data[place + length : place + length + 4]
        if length and (len(following) < 4 or _frame(following)[0]):
            total += samples
            place += length - 1
        place = data.find(b"\xff", place + 1)
    return total


def _frame(header: bytes) -> tuple[int, int]:
    """Bytes of the frame that begins so, and samples a channel; zeros if none does."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0, 0
    version, bit_rate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or bit_rate in (0, 15) or rate == 3:
        return 0, 0
    is_first = version == 3
    rate_hz = _RATES_HZ[rate] // {3: 1, 2: 2, 0: 4}[version]
    samples = 1152 if is_first else 576
    kilobits = _FIRST_KILOBITS[bit_rate] if is_first else _SECOND_KILOBITS[bit_rate]
    return samples // 8 * kilobits * 1000 // rate_hz + (header[2] >> 1 & 1), samples
