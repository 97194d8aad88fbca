//! The handlers that are generated, as a tree: small enough that one walk serves printing, checking and shrinking.

use std::collections::BTreeSet;

/// A WGSL scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    F32,
    I32,
    U32,
    Bool,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::Bool => "bool",
        }
    }

    pub fn is_integer(self) -> bool {
        matches!(self, Self::I32 | Self::U32)
    }
}

/// Where a pointer points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    Function,
    Private,
}

/// A WGSL type. Structs are known by name; their members are in [`Handler::structs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    Scalar(Kind),
    Vector(Kind, u32),
    /// Columns and rows.
    Matrix(u32, u32),
    Array(Box<Type>, u32),
    Struct(&'static str),
    Atomic(Kind),
    Pointer(Box<Type>, Space),
    /// What a function without a result gives, and `atomicStore`.
    Nothing,
}

pub const F32: Type = Type::Scalar(Kind::F32);
pub const I32: Type = Type::Scalar(Kind::I32);
pub const U32: Type = Type::Scalar(Kind::U32);
pub const BOOL: Type = Type::Scalar(Kind::Bool);

impl Type {
    /// The scalar's or the components' kind.
    pub fn kind(&self) -> Option<Kind> {
        match *self {
            Self::Scalar(kind) | Self::Vector(kind, _) => Some(kind),
            Self::Matrix(..) => Some(Kind::F32),
            _ => None,
        }
    }

    /// A scalar or vector of the same size with another kind.
    pub fn with_kind(&self, kind: Kind) -> Self {
        match *self {
            Self::Vector(_, size) => Self::Vector(kind, size),
            _ => Self::Scalar(kind),
        }
    }

    /// What an index selects, and how many there are of it.
    pub fn element(&self) -> Option<(Self, u32)> {
        match self {
            Self::Vector(kind, size) => Some((Self::Scalar(*kind), *size)),
            Self::Matrix(columns, rows) => Some((Self::Vector(Kind::F32, *rows), *columns)),
            Self::Array(element, len) => Some(((**element).clone(), *len)),
            _ => None,
        }
    }
}

/// Numbers of things that have a name: an index into [`Handler::names`].
pub type Id = usize;

/// What an expression does with its operands.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// The bits of a scalar.
    Literal(u32),
    /// A variable, parameter or table.
    Name(Id),
    /// A constant.
    Constant(Id),
    Unary(&'static str),
    Binary(&'static str),
    /// A built-in function, or one of [`PRELUDE`](super::print::PRELUDE).
    Call(&'static str),
    /// A function of the handler.
    Helper(usize),
    /// `emit_<name>` of the output with this number.
    Emit(usize),
    /// `T(…)`: a conversion or a composite, or the zero value.
    Construct,
    Bitcast,
    Swizzle(Vec<usize>),
    Member(&'static str),
    Index,
    /// `*p`
    Deref,
    /// `&x`
    Address,
}

/// An expression, or a place: a place is an expression whose root is a variable, a table or `*p`.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub ty: Type,
    pub form: Form,
    pub operands: Vec<Expr>,
}

impl Expr {
    pub fn new(ty: Type, form: Form, operands: Vec<Expr>) -> Self {
        Self { ty, form, operands }
    }

    pub fn literal(kind: Kind, bits: u32) -> Self {
        Self::new(Type::Scalar(kind), Form::Literal(bits), Vec::new())
    }

    pub fn u32(value: u32) -> Self {
        Self::literal(Kind::U32, value)
    }

    pub fn name(ty: Type, id: Id) -> Self {
        Self::new(ty, Form::Name(id), Vec::new())
    }

    pub fn call(ty: Type, name: &'static str, operands: Vec<Expr>) -> Self {
        Self::new(ty, Form::Call(name), operands)
    }

    pub fn binary(ty: Type, operator: &'static str, left: Expr, right: Expr) -> Self {
        Self::new(ty, Form::Binary(operator), vec![left, right])
    }

    pub fn member(self, ty: Type, name: &'static str) -> Self {
        Self::new(ty, Form::Member(name), vec![self])
    }

    pub fn index(self, ty: Type, index: Expr) -> Self {
        Self::new(ty, Form::Index, vec![self, index])
    }

    pub fn address(self, space: Space) -> Self {
        Self::new(Type::Pointer(Box::new(self.ty.clone()), space), Form::Address, vec![self])
    }

    /// Could the front evaluate this? What it evaluates must not overflow or divide by zero.
    pub fn is_constant(&self) -> bool {
        match self.form {
            Form::Literal(_) | Form::Constant(_) => true,
            Form::Name(_) | Form::Helper(_) | Form::Emit(_) | Form::Deref | Form::Address => false,
            _ => self.operands.iter().all(Self::is_constant),
        }
    }

    /// Is no component of it a constant that the front can see?
    pub fn is_wholly_runtime(&self) -> bool {
        match self.form {
            Form::Construct => !self.operands.is_empty() && self.operands.iter().all(Self::is_wholly_runtime),
            Form::Swizzle(_) | Form::Index | Form::Member(_) => self.operands[0].is_wholly_runtime(),
            _ => !self.is_constant(),
        }
    }

    /// Visits this expression and all inside of it.
    pub fn walk(&self, visit: &mut dyn FnMut(&Expr)) {
        visit(self);
        self.operands.iter().for_each(|operand| operand.walk(visit));
    }
}

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Stmt {
    Let(Id, Expr),
    Const(Id, Expr),
    Var(Id, Type, Option<Expr>),
    /// Target, the operator before `=` (or none), value.
    Assign(Expr, &'static str, Expr),
    /// `x++` or `x--`
    Step(Expr, &'static str),
    If(Expr, Block, Option<Block>),
    /// Variable, first value, condition, step, body.
    For(Id, Expr, Expr, Box<Stmt>, Block),
    While(Expr, Block),
    Loop(Block, Option<Continuing>),
    /// Selector and cases; `None` is the default among the labels.
    Switch(Expr, Vec<(Vec<Option<u32>>, Block)>),
    Block(Block),
    Break,
    Continue,
    Return(Option<Expr>),
    /// A call whose result, if any, is dropped.
    Call(Expr),
}

pub type Block = Vec<Stmt>;

/// The end of a `loop`.
#[derive(Clone, Debug, PartialEq)]
pub struct Continuing {
    pub body: Block,
    pub break_if: Option<Expr>,
}

impl Stmt {
    /// The expressions of this statement itself, in the order they are written.
    pub fn expressions(&self) -> Vec<&Expr> {
        match self {
            Self::Let(_, e) | Self::Const(_, e) | Self::Var(_, _, Some(e)) => vec![e],
            Self::Assign(target, _, value) => vec![target, value],
            Self::Step(e, _) | Self::If(e, ..) | Self::While(e, _) | Self::Switch(e, _) | Self::Call(e) => {
                vec![e]
            }
            Self::For(_, first, condition, _, _) => vec![first, condition],
            Self::Loop(_, Some(Continuing { break_if: Some(e), .. })) => vec![e],
            Self::Return(e) => e.iter().collect(),
            _ => Vec::new(),
        }
    }

    /// The blocks inside.
    pub fn blocks(&self) -> Vec<&Block> {
        match self {
            Self::If(_, accept, reject) => [Some(accept), reject.as_ref()].into_iter().flatten().collect(),
            Self::For(_, _, _, _, body) | Self::While(_, body) | Self::Block(body) => vec![body],
            Self::Loop(body, end) => {
                [Some(body), end.as_ref().map(|end| &end.body)].into_iter().flatten().collect()
            }
            Self::Switch(_, cases) => cases.iter().map(|(_, body)| body).collect(),
            _ => Vec::new(),
        }
    }

    /// Visits this statement and all inside of it.
    pub fn walk(&self, visit: &mut dyn FnMut(&Stmt)) {
        visit(self);
        if let Self::For(_, _, _, step, _) = self {
            step.walk(visit);
        }
        self.blocks().into_iter().flatten().for_each(|statement| statement.walk(visit));
    }
}

/// A function of a handler.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    pub name: String,
    pub parameters: Vec<(Id, Type)>,
    pub result: Type,
    pub body: Block,
    /// It touches private variables by name, itself or through what it calls: no pointer to one may be passed to it.
    pub uses_privates: bool,
}

impl Function {
    /// Visits every expression.
    pub fn expressions(&self, visit: &mut dyn FnMut(&Expr)) {
        for statement in &self.body {
            statement.walk(&mut |s| s.expressions().into_iter().for_each(|e| e.walk(visit)));
        }
    }
}

/// A struct; the members' names are their own.
#[derive(Clone, Debug, PartialEq)]
pub struct Struct {
    pub name: &'static str,
    pub members: Vec<(&'static str, Type)>,
}

/// A table.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub id: Id,
    pub element: Type,
    /// The size in its type, if it has one.
    pub size: Option<u32>,
    pub is_writable: bool,
}

/// A handler.
#[derive(Clone, Debug, PartialEq)]
pub struct Handler {
    pub names: Vec<String>,
    pub structs: Vec<Struct>,
    pub constants: Vec<(Id, Expr)>,
    pub privates: Vec<(Id, Type, Option<Expr>)>,
    pub tables: Vec<Table>,
    /// Name, type, most per message.
    pub outputs: Vec<(&'static str, &'static str, u32)>,
    /// Callees first; the last is `on_message`.
    pub functions: Vec<Function>,
    pub has_reply: bool,
    pub loop_budget: u32,
}

impl Handler {
    pub fn members(&self, name: &str) -> &[(&'static str, Type)] {
        let found = self.structs.iter().find(|s| s.name == name);
        found.map_or(&[], |s| &s.members)
    }

    /// The functions that `on_message` reaches, and what they name.
    pub fn used(&self) -> Used {
        let mut used = Used { functions: vec![false; self.functions.len()], ..Used::default() };
        if let Some(last) = used.functions.last_mut() {
            *last = true;
        }
        for (index, function) in self.functions.iter().enumerate().rev() {
            if used.functions[index] {
                function.expressions(&mut |e| match e.form {
                    Form::Helper(callee) => used.functions[callee] = true,
                    Form::Emit(output) => _ = used.outputs.insert(output),
                    Form::Name(id) | Form::Constant(id) => _ = used.ids.insert(id),
                    _ => {}
                });
            }
        }
        used
    }
}

/// What of a handler is reached.
#[derive(Default)]
pub struct Used {
    pub functions: Vec<bool>,
    pub outputs: BTreeSet<usize>,
    pub ids: BTreeSet<Id>,
}
