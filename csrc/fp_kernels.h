/* fp_kernels - the kernels that come with the package: for the benchmark, the tests and the examples.
 *
 * Journey: worker -> [KERNEL]. Each is a pure function of its arguments.
 */
#ifndef FP_KERNELS_H
#define FP_KERNELS_H

typedef struct fp_black_scholes_params {
    double rate;       /* risk-free, continuously compounded, a year: 0.05 is 5 % */
    double volatility; /* of the logarithm of the price, a root year: 0.2 is 20 % */
} fp_black_scholes_params;

/* Price of a European call on a stock without dividends. F. Black, M. Scholes, "The Pricing of Options and Corporate
 * Liabilities", J. Political Economy 81 (1973). `params`: fp_black_scholes_params; NULL: 5 % and 20 %. `years` <= 0 or no
 * volatility: the discounted value of exercising. */
double fp_kernel_black_scholes_call(double spot, double strike, double years, void *params);

/* The normal distribution's cumulative function, by erfc, which keeps the relative precision of the lower tail. */
double fp_kernel_normal_cdf(double x);

/* 1 + x/2 - x^2/3 + x^3/4 - x^4/5 + x^5/6, by Horner's rule. */
double fp_kernel_polynomial(double x);

/* x: what dispatching costs by itself. */
double fp_kernel_identity(double x);

/* Fails on purpose: returns the int that `status` points to; 1 for NULL. */
int fp_kernel_fail(void *status);

#endif
