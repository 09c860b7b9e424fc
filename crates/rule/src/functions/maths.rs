//! Functions of numbers.

use std::cmp::Ordering;

use super::{Called, Context, argument, arithmetic, functions};
use crate::compare::total_order;
use crate::failure::Reason;
use crate::value::{Num, TOO_BIG, Value};

functions! {
    "abs" "(int)" 1 1 Pure(|_, a| argument(a, 0).as_int()?.checked_abs().map(Value::Int).ok_or(TOO_BIG)), "The size of an integer, without its sign.", "abs(-12)" => "12";
    "acos" "(x)" 1 1 Pure(|_, a| float(a, f64::acos)), "Arc cosine.", "acos(1)" => "0.0";
    "acosh" "(x)" 1 1 Pure(|_, a| float(a, f64::acosh)), "Inverse hyperbolic cosine.", "acosh(1)" => "0.0";
    "asin" "(x)" 1 1 Pure(|_, a| float(a, f64::asin)), "Arc sine.", "asin(0)" => "0.0";
    "asinh" "(x)" 1 1 Pure(|_, a| float(a, f64::asinh)), "Inverse hyperbolic sine.", "asinh(0)" => "0.0";
    "atan" "(x)" 1 1 Pure(|_, a| float(a, f64::atan)), "Arc tangent.", "atan(0)" => "0.0";
    "atanh" "(x)" 1 1 Pure(|_, a| float(a, f64::atanh)), "Inverse hyperbolic tangent.", "atanh(0)" => "0.0";
    "ceil" "(x)" 1 1 Pure(|_, a| whole(a, f64::ceil)), "The smallest integer that is not less.", "ceil(0.2)" => "1";
    "cos" "(x)" 1 1 Pure(|_, a| float(a, f64::cos)), "Cosine.", "cos(0)" => "1.0";
    "cosh" "(x)" 1 1 Pure(|_, a| float(a, f64::cosh)), "Hyperbolic cosine.", "cosh(0)" => "1.0";
    "div" "(int, int)" 2 2 Pure(|_, a| arithmetic::whole(argument(a, 0), argument(a, 1), i64::checked_div)), "The whole part of a quotient, as the operator `div`.", "div(-7, 2)" => "-3";
    "eq" "(a, b)" 2 2 Pure(|c, a| Ok(Value::Bool(total_order(argument(a, 0), argument(a, 1), c.arena)? == Ordering::Equal))), "Whether two values are equal; an integer equals a float of the same value.", "eq(1, 1.0)" => "true";
    "exp" "(x)" 1 1 Pure(|_, a| float(a, f64::exp)), "e to the power of x.", "exp(0)" => "1.0";
    "floor" "(x)" 1 1 Pure(|_, a| whole(a, f64::floor)), "The largest integer that is not more.", "floor(-0.2)" => "-1";
    "fmod" "(x, y)" 2 2 Pure(fmod), "The remainder of x / y, a float with the sign of x.", "fmod(5.5, 2)" => "1.5";
    "log" "(x)" 1 1 Pure(|_, a| float(a, f64::ln)), "Natural logarithm.", "log(1)" => "0.0";
    "log10" "(x)" 1 1 Pure(|_, a| float(a, f64::log10)), "Logarithm to the base of 10.", "log10(1000)" => "3.0";
    "log2" "(x)" 1 1 Pure(|_, a| float(a, f64::log2)), "Logarithm to the base of 2.", "log2(8)" => "3.0";
    "mod" "(int, int)" 2 2 Pure(|_, a| arithmetic::whole(argument(a, 0), argument(a, 1), i64::checked_rem)), "The remainder of a quotient, as the operator `mod`: with the sign of the left side.", "mod(-7, 2)" => "-1";
    "power" "(x, y)" 2 2 Pure(|_, a| Value::float(argument(a, 0).as_float()?.powf(argument(a, 1).as_float()?))), "x to the power of y, a float.", "power(2, 10)" => "1024.0";
    "random" "()" 0 0 Around(|c, _| Ok(Value::Float((c.arena.random() >> 11) as f64 / (1_u64 << 53) as f64))), "A random float from 0 on, below 1.", "random() < 1" => "true";
    "round" "(x)" 1 1 Pure(|_, a| whole(a, f64::round)), "The nearest integer; halves go away from zero.", "round(-4.5)" => "-5";
    "sin" "(x)" 1 1 Pure(|_, a| float(a, f64::sin)), "Sine.", "sin(0)" => "0.0";
    "sinh" "(x)" 1 1 Pure(|_, a| float(a, f64::sinh)), "Hyperbolic sine.", "sinh(0)" => "0.0";
    "sqrt" "(x)" 1 1 Pure(|_, a| float(a, f64::sqrt)), "Square root, a float; of a negative number an error.", "sqrt(4)" => "2.0";
    "tan" "(x)" 1 1 Pure(|_, a| float(a, f64::tan)), "Tangent.", "tan(0)" => "0.0";
    "tanh" "(x)" 1 1 Pure(|_, a| float(a, f64::tanh)), "Hyperbolic tangent.", "tanh(0)" => "0.0";
}

fn float<'a>(arguments: &[Value<'a>], function: fn(f64) -> f64) -> Called<'a> {
    Value::float(function(argument(arguments, 0).as_float()?))
}

fn fmod<'a>(_: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let (x, y) = (argument(arguments, 0).as_float()?, argument(arguments, 1).as_float()?);
    if y == 0.0 { Err(Reason::domain("a division by zero")) } else { Value::float(x % y) }
}

/// Integers stay as they are.
pub(super) fn whole<'a>(arguments: &[Value<'a>], function: fn(f64) -> f64) -> Called<'a> {
    let value = argument(arguments, 0);
    match value.num() {
        Some(Num::Float(number)) => float_to_int(function(number)).map(Value::Int),
        Some(_) => Ok(value),
        None => Err(Reason::wanted("a number", value.kind())),
    }
}

/// A whole float as an integer.
pub(super) fn float_to_int(number: f64) -> Result<i64, Reason> {
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number);
    if fits { Ok(number as i64) } else { Err(TOO_BIG) }
}
