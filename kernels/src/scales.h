// Scales of 16 outputs' group of weights. Included inside a processor's namespace.

inline F16 load_scales(const Packed& w, int64_t panel, int64_t group) {
  const void* scales = w.scales_of(panel, group);
  return w.scale_bits == 16 ? load(static_cast<const uint16_t*>(scales))
                            : load(static_cast<const float*>(scales));
}
