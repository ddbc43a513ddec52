/* Log-mel of centred, reflected frames, as torch.stft has them. Spectra are float; with -DTINYSCENE_DOUBLE double. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#ifdef TINYSCENE_DOUBLE
typedef double real;
#define LOG log
#else
typedef float real;
#define LOG logf
#endif

typedef struct { real re, im; } Complex;

/* The k-th power of the n-th root of one; `half`: the real and imaginary parts of the first n / 2. */
static inline Complex root(const real *half, int n, int k)
{
    const int below = k % n < n / 2 ? k % n : k % n - n / 2;
    const real sign = k % n < n / 2 ? 1 : -1;
    const Complex w = {sign * half[2 * below], sign * half[2 * below + 1]};
    return w;
}

static inline Complex times(Complex a, Complex b)
{
    const Complex c = {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
    return c;
}

/* Fourier transform of n numbers that lie `stride` apart (Cooley and Tukey 1965), by the roots of one of `total`. */
static void transform(const real *half, int total, int n, int stride, const Complex *in, Complex *out)
{
    if (n == 1) {
        *out = *in;
        return;
    }
    int p = 2;
    while (n % p) p++;
    const int m = n / p;
    for (int k = 0; k < p; k++) transform(half, total, m, stride * p, in + (ptrdiff_t)k * stride, out + (ptrdiff_t)k * m);
    for (int i = 0; i < m && p == 2; i++) {
        const Complex w = {half[2 * (i * (total / n))], half[2 * (i * (total / n)) + 1]}, turned = times(out[m + i], w);
        const Complex sum = {out[i].re + turned.re, out[i].im + turned.im};
        const Complex difference = {out[i].re - turned.re, out[i].im - turned.im};
        out[i] = sum;
        out[m + i] = difference;
    }
    for (int i = 0; i < m && p > 2; i++) {
        Complex t[TINYSCENE_LARGEST_FACTOR];
        for (int k = 0; k < p; k++) t[k] = times(out[k * m + i], root(half, total, k * i * (total / n)));
        for (int j = 0; j < p; j++) {
            Complex sum = t[0];
            for (int k = 1; k < p; k++) {
                const Complex turned = times(t[k], root(half, total, (int)((int64_t)j * k % p) * (total / p)));
                sum.re += turned.re;
                sum.im += turned.im;
            }
            out[j * m + i] = sum;
        }
    }
}

typedef struct {
    int length, n_fft, win_length, hop_length, mel_bands, frames;
    const real *half, *window, *weight; /* roots of one; window; weights of all bands one after the other */
    const int32_t *first, *count; /* of each band: the first bin that it reads, and how many */
    real floor;
} FrontEnd;

/* `work` has room for n_fft complex numbers. */
static inline void log_mel_of(const FrontEnd *g, const float *samples, float *log_mel, Complex *work)
{
    const int n = g->n_fft / 2, before = (g->n_fft - g->win_length) / 2;
    Complex *const out = work + n;
    for (int t = 0; t < g->frames; t++) {
        real *const pairs = (real *)work;
        for (int j = 0; j < g->n_fft; j++) {
            int place = t * g->hop_length + j - n;
            if (place < 0) place = -place;
            if (place >= g->length) place = 2 * (g->length - 1) - place;
            const int inside = j >= before && j < before + g->win_length;
            pairs[j] = inside ? g->window[j - before] * (real)samples[place] : 0;
        }
        transform(g->half, g->n_fft, n, 1, work, out); /* of real numbers, two as one complex */
        real *const power = (real *)work;
        for (int k = 0; k <= n; k++) {
            const Complex a = out[k % n], b = out[(n - k) % n];
            const Complex even = {(a.re + b.re) / 2, (a.im - b.im) / 2}, odd = {(a.im + b.im) / 2, (b.re - a.re) / 2};
            const Complex turned = times(odd, root(g->half, g->n_fft, k));
            const real re = even.re + turned.re, im = even.im + turned.im;
            power[k] = re * re + im * im;
        }
        const real *weight = g->weight;
        for (int band = 0; band < g->mel_bands; band++) {
            real sum = 0;
            for (int k = 0; k < g->count[band]; k++) sum += *weight++ * power[g->first[band] + k];
            log_mel[band * g->frames + t] = (float)LOG(sum + g->floor);
        }
    }
}
