// Packing for products of four inputs at once. Included inside a processor's namespace.

inline void pack_step8(const uint8_t* from, int64_t stride, uint8_t* to) {
  for (int i = 0; i < 16; ++i) __builtin_memcpy(to + i * 4, from + i * stride, 4);
}

// Two bytes an output: inputs 0 and 1 in the low halves, 2 and 3 in the high ones.
inline void pack_units4(const uint8_t* from, int64_t stride, uint8_t* to) {
  for (int i = 0; i < 16; ++i) {
    const uint8_t* level = from + i * stride;
    to[i * 2] = uint8_t(level[0] | level[2] << 4);
    to[i * 2 + 1] = uint8_t(level[1] | level[3] << 4);
  }
}
