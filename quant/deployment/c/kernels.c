/* Operators on integers and reals, as ONNX Runtime computes them: the same float32 factors in the same order. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __clang__ /* a * b + c is rounded twice; gcc knows no such pragma, but does so by -std=c99 or -ffp-contract=off */
#pragma STDC FP_CONTRACT OFF
#endif

typedef struct {
    int in_channels, in_freq, in_time, out_channels, out_freq, out_time;
    int kernel_freq, kernel_time, stride_freq, stride_time, pad_freq, pad_time, dilation_freq, dilation_time;
    int groups, filters; /* filters that are stored; more channels use them again */
    int bits; /* of a weight: 8, or 4, two in a byte and the first in the lower half; 0: all are one */
} Convolution;

static inline float larger(float a, float b) { return a > b ? a : b; }
static inline float smaller(float a, float b) { return a < b ? a : b; }
static inline float leaky(float x, float slope) { return x < 0.0f ? x * slope : x; }
static inline float hard_sigmoid(float x, float slope, float shift) { return larger(0.0f, smaller(1.0f, slope * x + shift)); }
static inline float hard_swish(float x) { return x * hard_sigmoid(x, 1.0f / 6.0f, 0.5f); }
static inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

static inline uint8_t saturated(float x) { return (uint8_t)smaller(larger(x, 0.0f), 255.0f); }

static inline uint8_t quantized(float x, float scale, float zero) { return saturated(rintf(x / scale) + zero); }

static inline uint8_t summed(int a, float a_ratio, int b, float b_ratio, float constant)
{
    return saturated(rintf(fmaf((float)a, a_ratio, fmaf((float)b, b_ratio, constant))));
}

static inline uint8_t multiplied(int product, float factor, float zero)
{
    const float x = (float)product * factor;
    return saturated(rintf(x + zero));
}

static inline uint8_t scaled(int32_t sum, float factor, float zero)
{
    return saturated(rintf((float)sum * factor) + zero);
}

static inline int32_t tap_at(const int8_t *weight, int bits, int place)
{
    if (bits == 8) return weight[place];
    const int half = bits == 4 ? (uint8_t)weight[place / 2] >> (place % 2 ? 4 : 0) & 15 : 1;
    return half < 8 ? half : half - 16;
}

/* row[t] += tap * (line[t * step + shift] - zero) for t from `first` to `last` */
static inline void add_one(
    int32_t *row, const uint8_t *line, int step, int shift, int zero, int first, int last, int32_t tap)
{
    if (step == 1)
        for (int t = first; t <= last; t++) row[t] += tap * (line[t + shift] - zero);
    else
        for (int t = first; t <= last; t++) row[t] += tap * (line[t * step + shift] - zero);
}

/* The same for four rows of `width`: what is read once serves four times. */
static inline void add_four(
    int32_t *row, int width, const uint8_t *line, int step, int shift, int zero, int first, int last, const int32_t *tap)
{
    const int32_t w0 = tap[0], w1 = tap[1], w2 = tap[2], w3 = tap[3];
    int32_t *const r1 = row + width, *const r2 = r1 + width, *const r3 = r2 + width;
    for (int t = first; t <= last; t++) {
        const int32_t x = line[t * step + shift] - zero;
        row[t] += w0 * x;
        r1[t] += w1 * x;
        r2[t] += w2 * x;
        r3[t] += w3 * x;
    }
}

/* `row` has room for four rows of sums. No result is below `least`. */
static inline void convolve(
    const Convolution *g, const uint8_t *x, int x_zero, const int8_t *weight, const int32_t *bias, const float *factor,
    uint8_t *y, int y_zero, int least, int32_t *row)
{
    const int inputs = g->in_channels / g->groups, outputs = g->out_channels / g->groups, width = g->out_time;
    const int area = g->kernel_freq * g->kernel_time, step = g->stride_time;
    for (int c = 0, together; c < g->out_channels; c += together) {
        const int filter = c % g->filters;
        together = c % outputs + 4 <= outputs && filter + 4 <= g->filters ? 4 : 1;
        for (int f = 0; f < g->out_freq; f++) {
            for (int k = 0; k < together; k++)
                for (int t = 0; t < width; t++) row[k * width + t] = bias ? bias[filter + k] : 0;
            for (int kf = 0; kf < g->kernel_freq; kf++) {
                const int from = f * g->stride_freq - g->pad_freq + kf * g->dilation_freq;
                if (from < 0 || from >= g->in_freq) continue;
                for (int kt = 0; kt < g->kernel_time; kt++) {
                    const int shift = kt * g->dilation_time - g->pad_time, room = g->in_time - 1 - shift;
                    const int first = shift < 0 ? (step - 1 - shift) / step : 0;
                    const int last = room < 0 ? -1 : room / step < width - 1 ? room / step : width - 1;
                    const uint8_t *line = x + ((ptrdiff_t)(c / outputs) * inputs * g->in_freq + from) * g->in_time;
                    int place = filter * inputs * area + kf * g->kernel_time + kt;
                    for (int i = 0; i < inputs; i++, place += area, line += (ptrdiff_t)g->in_freq * g->in_time) {
                        int32_t tap[4];
                        for (int k = 0; k < together; k++) tap[k] = tap_at(weight, g->bits, place + k * inputs * area);
                        if (together == 4)
                            add_four(row, width, line, step, shift, x_zero, first, last, tap);
                        else
                            add_one(row, line, step, shift, x_zero, first, last, tap[0]);
                    }
                }
            }
            for (int k = 0; k < together; k++) {
                uint8_t *out = y + ((ptrdiff_t)(c + k) * g->out_freq + f) * width;
                for (int t = 0; t < width; t++) {
                    const uint8_t q = scaled(row[k * width + t], factor[filter + k], (float)y_zero);
                    out[t] = q < least ? (uint8_t)least : q;
                }
            }
        }
    }
}

/* Sums in packets of four, two in turn, as Eigen adds. */
static inline float ordered_sum(const float *x, int n)
{
    float even[4] = {0}, odd[4] = {0};
    const int packets = n / 4;
    int k = 0;
    for (; k + 1 < packets; k += 2)
        for (int j = 0; j < 4; j++) {
            even[j] += x[4 * k + j];
            odd[j] += x[4 * k + 4 + j];
        }
    for (int j = 0; j < 4; j++) even[j] += odd[j];
    if (k < packets)
        for (int j = 0; j < 4; j++) even[j] += x[4 * k + j];
    float total = (even[0] + even[2]) + (even[1] + even[3]);
    for (int i = 4 * packets; i < n; i++) total += x[i];
    return total;
}

/* Of a row, which is overwritten: the mean, and one over the standard deviation. */
static inline void instance_statistics(float *row, int n, float eps, float *mean, float *inverse)
{
    *mean = ordered_sum(row, n) / (float)n;
    for (int i = 0; i < n; i++) {
        const float centred = row[i] - *mean;
        row[i] = centred * centred;
    }
    *inverse = 1.0f / sqrtf(ordered_sum(row, n) / (float)n + eps);
}

/* The same of integers, whose sum is exact; squares are added in packets of eight, fused, as MLAS adds. */
static inline void layer_statistics(float *row, int n, float eps, float *mean, float *inverse)
{
    float total = 0.0f, sums[8] = {0};
    for (int i = 0; i < n; i++) total += row[i];
    *mean = total / (float)n;
    for (int i = 0; i < n; i++) row[i] -= *mean;
    for (int i = 0; i < n / 8 * 8; i++) sums[i % 8] = fmaf(row[i], row[i], sums[i % 8]);
    total = ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
    for (int i = n / 8 * 8; i < n; i++) {
        const float square = row[i] * row[i];
        total = i >= n / 4 * 4 && i > 0 ? fmaf(row[i], row[i], total) : total + square;
    }
    *inverse = 1.0f / sqrtf(total / (float)n + eps);
}

static inline void softmax(float *row, int n)
{
    float most = row[0], total = 0.0f;
    for (int i = 1; i < n; i++) most = larger(most, row[i]);
    for (int i = 0; i < n; i++) total += row[i] = expf(row[i] - most);
    for (int i = 0; i < n; i++) row[i] /= total;
}
