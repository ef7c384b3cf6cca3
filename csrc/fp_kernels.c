/* fp_kernels.c - see fp_kernels.h. */
#include "fp_kernels.h"

#include <math.h>
#include <stddef.h>

double fp_kernel_normal_cdf(double x)
{
    static const double root_half = 0.70710678118654752440;
    return 0.5 * erfc(-x * root_half);
}

double fp_kernel_black_scholes_call(double spot, double strike, double years, void *params)
{
    static const fp_black_scholes_params usual = {.rate = 0.05, .volatility = 0.2};
    const fp_black_scholes_params *market = params != NULL ? params : &usual;
    double discounted = strike * exp(-market->rate * fmax(years, 0.0));
    double deviation = market->volatility * sqrt(fmax(years, 0.0));
    if (isnan(spot + strike + years)) /* fmax would drop it */
        return NAN;
    if (deviation == 0.0)
        return fmax(spot - discounted, 0.0);
    double d1 = log(spot / discounted) / deviation + 0.5 * deviation;
    return spot * fp_kernel_normal_cdf(d1) - discounted * fp_kernel_normal_cdf(d1 - deviation);
}

double fp_kernel_polynomial(double x)
{
    return 1.0 + x * (1.0 / 2 + x * (-1.0 / 3 + x * (1.0 / 4 + x * (-1.0 / 5 + x * (1.0 / 6)))));
}

double fp_kernel_identity(double x)
{
    return x;
}

int fp_kernel_fail(void *status)
{
    return status != NULL ? *(int *)status : 1;
}
