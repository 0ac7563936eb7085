// What rows of attention see. The keys of a segment, prefix then own, are numbered
// together, so that the two intervals of the mask become one:
//
//        key number   0 . . . . . prefix . . . . keys
//   token 0           # # # # # # #
//   token 1           # # # # # # # #               one row per token and head of
//   token 2           - # # # # # # # #             the group: v = token*group + head,
//   token 3           - - # # # # # # # #           so the tile is full for any group
//                     ^ hidden by the window
#define LOG2E 1.44269504f
#define LN2 0.69314718f

typedef struct {
	long prefix, group, dim, wide;      // wide: dim rounded up to LANES
	long window, stride, ostride, head; // strides of a row of qkv and of out
	long q, k, v;                       // where these begin in a row of qkv
	long from, rows, first, last;       // the first token; rows; keys [first, last)
	float scale;
	segment s;
} shape;

static shape shape_of(const attention_args *a, const piece *p, long kv)
{
	shape x = {.s = p->s, .dim = a->dim, .group = a->q_heads / a->kv_heads, .window = a->window};
	x.prefix = p->s.prefix_hi - p->s.prefix_lo;
	x.from = p->lo;
	x.rows = (p->hi - p->lo) * x.group;
	x.first = p->first;
	x.last = p->last;
	x.wide = up(x.dim, LANES);
	x.stride = (a->q_heads + 2 * a->kv_heads) * x.dim;
	x.ostride = a->q_heads * x.dim;
	x.head = kv * x.group;
	x.q = x.head * x.dim;
	x.k = (a->q_heads + kv) * x.dim;
	x.v = x.k + a->kv_heads * x.dim;
	x.scale = 1 / sqrtf(x.dim);
	return x;
}

// Row v of a piece is of row token(v) of the batch and query head head(v), and sees
// keys [first_key, limit) where limit = limits[v].
INLINE long token(const shape *x, long v) { return x->from + v / x->group; }
INLINE long head(const shape *x, long v) { return x->head + v % x->group; }
INLINE long first_key(const shape *x, long limit) { return x->window ? max(0, limit - x->window) : 0; }

static void set_limits(int32_t *limits, const shape *x)
{
	for (long v = 0; v < x->rows; v++)
		limits[v] = x->prefix + token(x, v) - x->s.lo + 1;
}

INLINE const elem *key(const elem *qkv, const shape *x, long j)
{
	return qkv + (j < x->prefix ? x->s.prefix_lo + j : x->s.lo + j - x->prefix) * x->stride;
}
