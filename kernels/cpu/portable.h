// Whatever the compiler's baseline is: SSE2 on amd64, NEON on arm64.
#define LANES 4
#define ROWS 6
#define KEYS 192
