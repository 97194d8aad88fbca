//! Expressions of a wanted type.

use super::super::ast::{BOOL, Expr, F32, Form, I32, Kind, Space, Type, U32};
use super::super::builtins::{self, Floats, PARTICULAR};
use super::place::Use;
use super::{Builder, Need, Role};

const COMPARISONS: [&str; 6] = ["<", "<=", ">", ">=", "==", "!="];

impl Builder {
    /// An expression of this type, at most so deep.
    pub(super) fn expr(&mut self, ty: &Type, depth: u32, need: Need) -> Expr {
        self.expressions_left -= 1;
        if depth == 0 || self.expressions_left < 0 || self.random.chance(1, 6) {
            return self.leaf(ty, need);
        }
        let made = match self.random.below(12) {
            0 => self.helper_value(ty, depth),
            1 => self.table_place(ty, Use::Read),
            2 | 3 => self.built_in(ty, depth),
            _ => None,
        };
        if let Some(made) = made {
            return made;
        }
        match ty {
            Type::Scalar(Kind::Bool) => self.condition(depth),
            Type::Vector(Kind::Bool, _) => self.conditions(ty, depth),
            Type::Scalar(_) | Type::Vector(..) => self.number(ty, depth),
            Type::Matrix(columns, rows) => self.matrix(*columns, *rows, depth),
            _ => self.composite(ty, depth - 1, need),
        }
    }

    fn leaf(&mut self, ty: &Type, need: Need) -> Expr {
        if need == Need::Any && self.random.chance(1, 3) {
            return self.constant(ty);
        }
        match self.place(ty, Use::Read) {
            Some(place) => place,
            None => self.composite(ty, 0, need),
        }
    }

    /// A value made from its parts; of a scalar, one that is there, converted.
    fn composite(&mut self, ty: &Type, depth: u32, need: Need) -> Expr {
        let mut parts = Vec::new();
        match ty {
            Type::Scalar(kind) if need == Need::Any && self.random.chance(1, 2) => {
                return Expr::literal(*kind, self.random.literal(*kind));
            }
            Type::Scalar(_) => {
                let found = [U32, I32, F32].iter().find_map(|number| self.place(number, Use::Read));
                let found = found.expect("a function always has a parameter that is a number");
                if found.ty == *ty {
                    return found;
                }
                parts.push(found);
            }
            _ if need == Need::Any && self.random.chance(1, 4) => {}
            Type::Vector(kind, size) => {
                let first = self.expr(&Type::Scalar(*kind), depth, need);
                parts.push(first);
                // One scalar alone is spread.
                if self.random.chance(3, 4) {
                    let mut left = size - 1;
                    while left > 0 {
                        let count = if self.random.chance(1, 3) { self.random.between(1, left) } else { 1 };
                        let part = if count == 1 { Type::Scalar(*kind) } else { Type::Vector(*kind, count) };
                        parts.push(self.expr(&part, depth, Need::Any));
                        left -= count;
                    }
                }
            }
            Type::Struct(name) => {
                for (index, (_, ty)) in self.handler.members(name).to_vec().iter().enumerate() {
                    parts.push(self.expr(ty, depth, if index == 0 { need } else { Need::Any }));
                }
            }
            _ => {
                let (element, len) = ty.element().expect("only arrays and matrices are left");
                for index in 0..len {
                    parts.push(self.expr(&element, depth, if index == 0 { need } else { Need::Any }));
                }
            }
        }
        Expr::new(ty.clone(), Form::Construct, parts)
    }

    /// A constant of this type: a literal, a named one, or a composite of them.
    pub(super) fn constant(&mut self, ty: &Type) -> Expr {
        if let Type::Scalar(kind) = *ty {
            let is_named = |e: &&super::Entry| e.role == Role::Constant && e.ty == *ty;
            let named: Vec<_> = self.scope.iter().filter(is_named).map(|e| e.id).collect();
            if !named.is_empty() && self.random.chance(1, 2) {
                return Expr::new(ty.clone(), Form::Constant(*self.random.pick(&named)), Vec::new());
            }
            return Expr::literal(kind, self.random.literal(kind));
        }
        let parts: Vec<Type> = match ty {
            _ if self.random.chance(1, 3) => Vec::new(),
            Type::Struct(name) => self.handler.members(name).iter().map(|(_, ty)| ty.clone()).collect(),
            _ => ty.element().map_or(Vec::new(), |(element, len)| vec![element; len as usize]),
        };
        let parts = parts.iter().map(|part| self.constant(part)).collect();
        Expr::new(ty.clone(), Form::Construct, parts)
    }

    /// A constant expression that stays far from any overflow, for constants.
    pub(super) fn constant_expression(&mut self, kind: Kind, depth: u32) -> Expr {
        let ty = Type::Scalar(kind);
        if depth == 0 || kind == Kind::Bool || self.random.chance(1, 3) {
            let small = self.random.below(40);
            return Expr::literal(
                kind,
                if kind == Kind::F32 { (small as f32 * 0.25).to_bits() } else { small },
            );
        }
        let operators: &[&str] = if kind == Kind::F32 { &["+", "*"] } else { &["+", "*", "|", "^", "&"] };
        let operator = *self.random.pick(operators);
        let (left, right) =
            (self.constant_expression(kind, depth - 1), self.constant_expression(kind, depth - 1));
        Expr::binary(ty, operator, left, right)
    }

    /// Two operands of which one is known only at run time.
    fn pair(&mut self, left: &Type, right: &Type, depth: u32) -> (Expr, Expr) {
        let left = self.expr(left, depth, Need::Any);
        let need = if left.is_constant() { Need::Runtime } else { Need::Any };
        let right = self.expr(right, depth, need);
        (left, right)
    }

    /// A call of a built-in function that gives this type.
    fn built_in(&mut self, ty: &Type, depth: u32) -> Option<Expr> {
        if let (Type::Matrix(columns, rows), true) = (ty, self.random.chance(1, 2)) {
            let operand = self.expr(&Type::Matrix(*rows, *columns), depth - 1, Need::Runtime);
            return Some(Expr::call(ty.clone(), "transpose", vec![operand]));
        }
        let (builtin, types) = builtins::pick(ty, self.floats, &mut self.random)?;
        let must_all_run = PARTICULAR.contains(&builtin.name);
        let mut operands = Vec::new();
        for (index, operand) in types.iter().enumerate() {
            let is_condition = operand.kind() == Some(Kind::Bool);
            let need = if must_all_run || index == 0 || is_condition { Need::Runtime } else { Need::Any };
            operands.push(self.expr(operand, depth - 1, need));
        }
        if builtin.name == "round" && self.random.chance(1, 2) {
            operands[0] = self.tie(ty);
        }
        Some(match builtin.member {
            Some(member) => Expr::call(Type::Nothing, builtin.name, operands).member(ty.clone(), member),
            None => Expr::call(ty.clone(), builtin.name, operands),
        })
    }

    /// A number in the middle of two whole ones, which is rare otherwise.
    fn tie(&mut self, ty: &Type) -> Expr {
        let whole = self.expr(&ty.with_kind(Kind::I32), 0, Need::Runtime);
        let whole = Expr::new(ty.clone(), Form::Construct, vec![whole]);
        Expr::binary(ty.clone(), "+", whole, Expr::literal(Kind::F32, 0.5f32.to_bits()))
    }

    /// A call of a helper that gives this type, if there is one that may be called here.
    fn helper_value(&mut self, ty: &Type, depth: u32) -> Option<Expr> {
        let fitting: Vec<_> = (0..self.handler.functions.len())
            .filter(|index| self.handler.functions[*index].result == *ty)
            .collect();
        if fitting.is_empty() {
            return None;
        }
        let index = *self.random.pick(&fitting);
        self.helper_call(index, depth)
    }

    /// A call of this helper, if its pointers can be had here.
    pub(super) fn helper_call(&mut self, index: usize, depth: u32) -> Option<Expr> {
        let callee = &self.handler.functions[index];
        let (result, uses_privates) = (callee.result.clone(), callee.uses_privates);
        if uses_privates && !self.can_use_privates {
            return None;
        }
        let parameters: Vec<Type> = callee.parameters.iter().map(|(_, ty)| ty.clone()).collect();
        let mut roots = Vec::new();
        let mut operands = Vec::new();
        for ty in &parameters {
            if let Type::Pointer(pointee, space) = ty {
                if *space == Space::Private && uses_privates {
                    return None;
                }
                let (pointer, root) = self.pointer(pointee, *space, &roots)?;
                self.uses_privates |= *space == Space::Private;
                roots.push(root);
                operands.push(pointer);
            } else {
                operands.push(self.expr(ty, depth.saturating_sub(1), Need::Any));
            }
        }
        self.uses_privates |= uses_privates;
        Some(Expr::new(result, Form::Helper(index), operands))
    }

    /// A number, or a vector of numbers.
    fn number(&mut self, ty: &Type, depth: u32) -> Expr {
        let kind = ty.kind().unwrap_or(Kind::U32);
        let is_vector = matches!(ty, Type::Vector(..));
        let when = |is: bool, weight: u32| if is { weight } else { 0 };
        let weights = [
            10,                                       // arithmetic
            when(kind.is_integer(), 5),               // bits and shifts
            3,                                        // one operand
            8,                                        // a built-in function
            3,                                        // conversion
            2,                                        // bitcast
            2,                                        // part of a vector
            when(is_vector, 3),                       // composite
            when(is_vector, 4),                       // vector and scalar
            when(is_vector && kind == Kind::F32, 4),  // matrix and vector
            when(!is_vector && kind.is_integer(), 3), // atomic
            when(*ty == U32, 1),                      // arrayLength
        ];
        let below = depth - 1;
        let choice = self.random.weighted(&weights);
        match choice {
            1 => return self.bits(ty, below),
            2 => {
                let operators: &[&str] = match kind {
                    Kind::F32 => &["-"],
                    Kind::I32 => &["-", "~"],
                    _ => &["~"],
                };
                let operator = *self.random.pick(operators);
                let operand = self.expr(ty, below, Need::Runtime);
                return Expr::new(ty.clone(), Form::Unary(operator), vec![operand]);
            }
            4 => {
                let from = ty.with_kind(self.kind());
                let operand = self.expr(&from, below, Need::Runtime);
                return Expr::new(ty.clone(), Form::Construct, vec![operand]);
            }
            6 => return self.part_of_vector(kind, ty, below),
            7 => return self.composite(ty, below, Need::Runtime),
            _ => {}
        }
        let made = match choice {
            3 => self.built_in(ty, depth),
            5 => self.bitcast(ty, kind, below),
            8 => Some(self.with_scalar(ty, kind, below)),
            9 => Some(self.matrix_and_vector(ty, below)),
            10 => self.atomic(kind, below),
            11 => self.array_length(),
            _ => None,
        };
        made.unwrap_or_else(|| self.arithmetic(ty, below))
    }

    fn arithmetic(&mut self, ty: &Type, depth: u32) -> Expr {
        let operator = *self.random.pick(&["+", "-", "*", "+", "-", "*", "/", "%"]);
        if matches!(operator, "/" | "%") {
            let left = self.expr(ty, depth, Need::Runtime);
            let right = self.divisor(ty, depth);
            return Expr::binary(ty.clone(), operator, left, right);
        }
        let (left, right) = self.pair(ty, ty, depth);
        Expr::binary(ty.clone(), operator, left, right)
    }

    /// What may stand on the right of `/` and `%`: no constant but a number that is not zero.
    pub(super) fn divisor(&mut self, ty: &Type, depth: u32) -> Expr {
        const DIVISORS: [u32; 5] = [1, 2, 3, 7, 10];
        if self.random.chance(1, 3) {
            let number = *self.random.pick(&DIVISORS);
            match ty {
                Type::Scalar(Kind::F32) => return Expr::literal(Kind::F32, (number as f32).to_bits()),
                Type::Scalar(kind) => return Expr::literal(*kind, number),
                _ => {}
            }
        }
        self.wholly_runtime(ty, depth)
    }

    /// An expression with no constant component: the front looks for zeros, and for shifts too far, in each.
    fn wholly_runtime(&mut self, ty: &Type, depth: u32) -> Expr {
        let value = self.expr(ty, depth, Need::Runtime);
        if value.is_wholly_runtime() {
            return value;
        }
        let scalar = Type::Scalar(ty.kind().unwrap_or(Kind::U32));
        let scalar =
            self.place(&scalar, Use::Read).unwrap_or_else(|| self.composite(&scalar, 0, Need::Runtime));
        if scalar.ty == *ty { scalar } else { Expr::new(ty.clone(), Form::Construct, vec![scalar]) }
    }

    /// An amount to shift a value of this type by: a literal is below 32.
    pub(super) fn shift_amount(&mut self, ty: &Type, depth: u32) -> Expr {
        if matches!(ty, Type::Scalar(_)) && self.random.chance(1, 2) {
            return Expr::u32(self.random.below(32));
        }
        self.wholly_runtime(&ty.with_kind(Kind::U32), depth)
    }

    fn bits(&mut self, ty: &Type, depth: u32) -> Expr {
        let operator = *self.random.pick(&["&", "|", "^", "<<", ">>", ">>"]);
        if matches!(operator, "<<" | ">>") {
            let left = self.expr(ty, depth, Need::Runtime);
            let right = self.shift_amount(ty, depth);
            return Expr::binary(ty.clone(), operator, left, right);
        }
        let (left, right) = self.pair(ty, ty, depth);
        Expr::binary(ty.clone(), operator, left, right)
    }

    /// The bits of another kind. A NaN's bits are looked at only where they came with the message, or not at all.
    fn bitcast(&mut self, ty: &Type, kind: Kind, depth: u32) -> Option<Expr> {
        let from = match kind {
            Kind::F32 => *self.random.pick(&[Kind::I32, Kind::U32]),
            _ if self.floats > Floats::None && self.random.chance(1, 2) => {
                let raw = self.message_part(&ty.with_kind(Kind::F32))?;
                return Some(Expr::new(ty.clone(), Form::Bitcast, vec![raw]));
            }
            Kind::I32 => Kind::U32,
            _ => Kind::I32,
        };
        let operand = self.expr(&ty.with_kind(from), depth, Need::Runtime);
        Some(Expr::new(ty.clone(), Form::Bitcast, vec![operand]))
    }

    /// Components of a vector: by letters, or by an index.
    fn part_of_vector(&mut self, kind: Kind, ty: &Type, depth: u32) -> Expr {
        let size = self.random.between(2, 4);
        let vector = self.expr(&Type::Vector(kind, size), depth, Need::Runtime);
        let count = match *ty {
            Type::Vector(_, count) => count,
            _ if self.random.chance(1, 2) => return self.element(vector, ty.clone(), size),
            _ => 1,
        };
        let components = (0..count).map(|_| self.random.below(size) as usize).collect();
        Expr::new(ty.clone(), Form::Swizzle(components), vec![vector])
    }

    fn with_scalar(&mut self, ty: &Type, kind: Kind, depth: u32) -> Expr {
        let scalar = Type::Scalar(kind);
        let operator = *self.random.pick(&["+", "-", "*", "/", "%"]);
        let is_left = self.random.chance(1, 2);
        let (left, right) = if is_left { (&scalar, ty) } else { (ty, &scalar) };
        if matches!(operator, "/" | "%") {
            let left = self.expr(left, depth, Need::Runtime);
            let right = self.divisor(right, depth);
            return Expr::binary(ty.clone(), operator, left, right);
        }
        let (left, right) = self.pair(left, right, depth);
        Expr::binary(ty.clone(), operator, left, right)
    }

    fn matrix_and_vector(&mut self, ty: &Type, depth: u32) -> Expr {
        let Type::Vector(_, size) = *ty else { return self.arithmetic(ty, depth) };
        let other = self.random.between(2, 4);
        let vector = Type::Vector(Kind::F32, other);
        let (left, right) = if self.random.chance(1, 2) {
            (Type::Matrix(other, size), vector)
        } else {
            (vector, Type::Matrix(size, other))
        };
        let (left, right) = self.pair(&left, &right, depth);
        Expr::binary(ty.clone(), "*", left, right)
    }

    fn matrix(&mut self, columns: u32, rows: u32, depth: u32) -> Expr {
        let ty = Type::Matrix(columns, rows);
        let shared = self.random.between(2, 4);
        let (operator, left, right) = match self.random.below(6) {
            0 => ("*", Type::Matrix(shared, rows), Type::Matrix(columns, shared)),
            1 => ("*", ty.clone(), F32),
            2 => ("*", F32, ty.clone()),
            3 => ("+", ty.clone(), ty.clone()),
            4 => ("-", ty.clone(), ty.clone()),
            _ => return self.composite(&ty, depth - 1, Need::Runtime),
        };
        let (left, right) = self.pair(&left, &right, depth - 1);
        Expr::binary(ty, operator, left, right)
    }

    /// An atomic's value, or what was there before it changed.
    pub(super) fn atomic(&mut self, kind: Kind, depth: u32) -> Option<Expr> {
        const FUNCTIONS: [&str; 9] = [
            "atomicAdd",
            "atomicSub",
            "atomicMax",
            "atomicMin",
            "atomicAnd",
            "atomicOr",
            "atomicXor",
            "atomicExchange",
            "atomicLoad",
        ];
        let place = self.table_place(&Type::Atomic(kind), Use::Address)?;
        let pointer = place.address(Space::Function);
        let ty = Type::Scalar(kind);
        if self.random.chance(1, 6) {
            let call = self.compare_exchange(pointer, kind, depth);
            return Some(call.member(ty, "old_value"));
        }
        let name = *self.random.pick(&FUNCTIONS);
        let mut operands = vec![pointer];
        if name != "atomicLoad" {
            operands.push(self.expr(&ty, depth, Need::Any));
        }
        Some(Expr::call(ty, name, operands))
    }

    fn compare_exchange(&mut self, pointer: Expr, kind: Kind, depth: u32) -> Expr {
        let ty = Type::Scalar(kind);
        let (expected, new) = (self.expr(&ty, depth, Need::Any), self.expr(&ty, depth, Need::Any));
        Expr::call(Type::Nothing, "atomicCompareExchangeWeak", vec![pointer, expected, new])
    }

    fn array_length(&mut self) -> Option<Expr> {
        let unsized_tables: Vec<_> =
            self.handler.tables.iter().filter(|t| t.size.is_none()).cloned().collect();
        if unsized_tables.is_empty() {
            return None;
        }
        let table = self.random.pick(&unsized_tables);
        let whole = Expr::name(Type::Array(Box::new(table.element.clone()), 0), table.id);
        Some(Expr::call(U32, "arrayLength", vec![whole.address(Space::Function)]))
    }

    fn condition(&mut self, depth: u32) -> Expr {
        let below = depth - 1;
        match self.random.below(14) {
            0..=5 => {
                let kind = self.kind();
                let operators = if kind == Kind::Bool { &COMPARISONS[4..] } else { &COMPARISONS[..] };
                let operator = *self.random.pick(operators);
                let ty = Type::Scalar(kind);
                let (left, mut right) = self.pair(&ty, &ty, below);
                // What is equal to itself is rare among random numbers.
                if !left.is_constant() && self.random.chance(1, 8) {
                    right = left.clone();
                }
                Expr::binary(BOOL, operator, left, right)
            }
            6..=8 => {
                let operator = *self.random.pick(&["&&", "||", "&&", "||", "&", "|"]);
                let left = self.expr(&BOOL, below, Need::Runtime);
                let right = self.expr(&BOOL, below, Need::Runtime);
                Expr::binary(BOOL, operator, left, right)
            }
            9 => {
                let operand = self.expr(&BOOL, below, Need::Runtime);
                Expr::new(BOOL, Form::Unary("!"), vec![operand])
            }
            10 => {
                let from = Type::Scalar(self.number_kind());
                let operand = self.expr(&from, below, Need::Runtime);
                Expr::new(BOOL, Form::Construct, vec![operand])
            }
            11 => self.part_of_vector(Kind::Bool, &BOOL, below),
            12 => {
                let kind = *self.random.pick(&[Kind::U32, Kind::I32]);
                match self.table_place(&Type::Atomic(kind), Use::Address) {
                    Some(place) => {
                        let pointer = place.address(Space::Function);
                        self.compare_exchange(pointer, kind, below).member(BOOL, "exchanged")
                    }
                    None => self.leaf(&BOOL, Need::Runtime),
                }
            }
            _ => match self.built_in(&BOOL, depth) {
                Some(call) => call,
                None => self.leaf(&BOOL, Need::Runtime),
            },
        }
    }

    fn conditions(&mut self, ty: &Type, depth: u32) -> Expr {
        let below = depth - 1;
        match self.random.below(8) {
            0..=3 => {
                let kind = self.number_kind();
                let operator = *self.random.pick(&COMPARISONS);
                let operand = ty.with_kind(kind);
                let (left, right) = self.pair(&operand, &operand, below);
                Expr::binary(ty.clone(), operator, left, right)
            }
            4 => {
                let operator = *self.random.pick(&["&", "|", "==", "!="]);
                let (left, right) = self.pair(ty, ty, below);
                Expr::binary(ty.clone(), operator, left, right)
            }
            5 => {
                let operand = self.expr(ty, below, Need::Runtime);
                Expr::new(ty.clone(), Form::Unary("!"), vec![operand])
            }
            6 => self.part_of_vector(Kind::Bool, ty, below),
            _ => self.composite(ty, below, Need::Runtime),
        }
    }
}
