//! Makes handlers that are valid by construction.
//!
//! The front evaluates constant expressions and refuses those that overflow, so whatever could be evaluated there has
//! an operand that is known only when the handler runs; that is what `Need::Runtime` asks for.

mod expression;
mod place;
mod statement;

use super::ast::{BOOL, Expr, Form, Function, Handler, I32, Id, Kind, Space, Struct, Table, Type, U32};
use super::builtins::Floats;
use super::random::Random;

/// What a name is in a function.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Role {
    Constant,
    /// A `let`, a parameter, or a variable that is not written.
    Value,
    Variable,
    Private,
    Pointer(Space),
}

/// A name that can be used.
#[derive(Clone)]
struct Entry {
    id: Id,
    ty: Type,
    role: Role,
    /// The variable or parameter behind a pointer; two pointers with one root are never passed together.
    root: Id,
    /// Stays visible: there is always a number that only a run knows.
    is_kept: bool,
}

/// Must an expression be one that the front cannot evaluate?
#[derive(Clone, Copy, PartialEq)]
enum Need {
    Any,
    Runtime,
}

/// Where `break`, `continue` and `return` may stand.
#[derive(Clone, Copy)]
struct Flow {
    can_break: bool,
    can_continue: bool,
    can_return: bool,
    depth: u32,
    loops: u32,
}

/// The making of one handler.
pub struct Builder {
    random: Random,
    floats: Floats,
    handler: Handler,
    /// Names of the module that every function sees.
    module_scope: Vec<Entry>,
    scope: Vec<Entry>,
    /// Names with a lower number are of outer blocks: they can be hidden.
    block_start: Id,
    /// The message's parameter, in `on_message`.
    message: Option<Id>,
    /// The result of the function in hand.
    result: Type,
    can_use_privates: bool,
    uses_privates: bool,
    /// Expressions and statements that may still be made.
    expressions_left: i32,
    statements_left: i32,
}

/// A random handler.
pub fn build(seed: u64, floats: Floats) -> Handler {
    let mut builder = Builder {
        random: Random::new(seed),
        floats,
        handler: Handler {
            names: Vec::new(),
            structs: Vec::new(),
            constants: Vec::new(),
            privates: Vec::new(),
            tables: Vec::new(),
            outputs: Vec::new(),
            functions: Vec::new(),
            has_reply: true,
            loop_budget: 0,
        },
        module_scope: Vec::new(),
        scope: Vec::new(),
        block_start: 0,
        message: None,
        result: Type::Nothing,
        can_use_privates: false,
        uses_privates: false,
        expressions_left: 0,
        statements_left: 0,
    };
    (0..4).for_each(|_| _ = builder.random.next());
    builder.module();
    builder.handler
}

const MEMBERS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

impl Builder {
    fn module(&mut self) {
        self.handler.has_reply = self.random.chance(9, 10);
        // Mostly enough for the loops that are made, sometimes not.
        let budgets = [2000, 500, 500, 100, 12];
        self.handler.loop_budget = *self.random.pick(&budgets);
        self.structs();
        for number in 0..self.random.below(3) {
            let id = self.new_name(format!("K{number}"));
            let kind = self.kind();
            let value = self.constant_expression(kind, 2);
            self.handler.constants.push((id, value));
            self.add_to_module(id, Type::Scalar(kind), Role::Constant);
        }
        for number in 0..self.random.between(1, 4) {
            let ty = self.local_type();
            let value = self.random.chance(1, 2).then(|| self.constant(&ty));
            let id = self.new_name(format!("p{number}"));
            self.handler.privates.push((id, ty.clone(), value));
            self.add_to_module(id, ty, Role::Private);
        }
        self.tables();
        for (name, ty) in [("alerts", "Alert"), ("notes", "Note")] {
            if self.random.chance(1, 2) {
                let most = self.random.between(1, 3);
                self.handler.outputs.push((name, ty, most));
            }
        }
        for number in 0..self.random.below(4) {
            self.helper(number);
        }
        self.on_message();
    }

    fn new_name(&mut self, text: String) -> Id {
        self.handler.names.push(text);
        self.handler.names.len() - 1
    }

    fn add_to_module(&mut self, id: Id, ty: Type, role: Role) {
        self.module_scope.push(Entry { id, ty, role, root: id, is_kept: false });
    }

    fn kind(&mut self) -> Kind {
        let kinds = [Kind::U32, Kind::I32, Kind::F32, Kind::F32, Kind::Bool];
        match *self.random.pick(&kinds) {
            Kind::F32 if self.floats == Floats::None => Kind::U32,
            kind => kind,
        }
    }

    fn number_kind(&mut self) -> Kind {
        match self.kind() {
            Kind::Bool => Kind::I32,
            kind => kind,
        }
    }

    /// A type that a message's field may have.
    fn field_type(&mut self, can_nest: bool) -> Type {
        let kind = self.number_kind();
        match self.random.below(10) {
            0..=4 => Type::Scalar(kind),
            5..=7 => Type::Vector(kind, self.random.between(2, 4)),
            8 if can_nest => Type::Struct("Point"),
            _ => {
                let element = match self.random.below(3) {
                    0 if can_nest => Type::Struct("Point"),
                    1 => Type::Vector(kind, self.random.between(2, 4)),
                    _ => Type::Scalar(kind),
                };
                Type::Array(Box::new(element), self.random.between(2, 4))
            }
        }
    }

    fn structs(&mut self) {
        let add = |builder: &mut Self, name, types: Vec<Type>| {
            let members = MEMBERS.into_iter().zip(types).collect();
            builder.handler.structs.push(Struct { name, members });
        };
        let fields = |builder: &mut Self, low, high, can_nest| -> Vec<Type> {
            (0..builder.random.between(low, high)).map(|_| builder.field_type(can_nest)).collect()
        };
        let point = fields(self, 1, 3, false);
        add(self, "Point", point);
        // Held in locals and tables: a matrix, an array, a struct.
        let mut cell = fields(self, 1, 3, true);
        if self.floats > Floats::None {
            cell.push(Type::Matrix(self.random.between(2, 4), self.random.between(2, 4)));
        }
        add(self, "Cell", cell);
        let mut pair = vec![BOOL, self.local_scalar_or_vector()];
        pair.push(Type::Array(Box::new(Type::Struct("Cell")), self.random.between(1, 3)));
        add(self, "Pair", pair);
        let mut item = fields(self, 0, 2, true);
        item.push(Type::Atomic(*self.random.pick(&[Kind::U32, Kind::I32])));
        item.extend(fields(self, 0, 1, false));
        add(self, "Item", item);
        let mut input = vec![U32];
        input.extend(fields(self, 2, 6, true));
        add(self, "In", input);
        let mut output = vec![U32, I32];
        output.extend(fields(self, 1, 5, true));
        add(self, "Out", output);
        let mut state = fields(self, 1, 4, true);
        if self.random.chance(1, 4) {
            state.push(Type::Struct("Cell"));
        }
        add(self, "State", state);
        let alert = fields(self, 1, 3, true);
        add(self, "Alert", alert);
        let note = fields(self, 1, 2, false);
        add(self, "Note", note);
    }

    fn local_scalar_or_vector(&mut self) -> Type {
        let kind = self.kind();
        if self.random.chance(2, 3) {
            Type::Scalar(kind)
        } else {
            Type::Vector(kind, self.random.between(2, 4))
        }
    }

    /// A type of a variable.
    fn local_type(&mut self) -> Type {
        match self.random.below(20) {
            0..=12 => self.local_scalar_or_vector(),
            13 | 14 if self.floats > Floats::None => {
                Type::Matrix(self.random.between(2, 4), self.random.between(2, 4))
            }
            15 => Type::Struct(["Point", "Cell", "Pair"][self.random.below(3) as usize]),
            16 => Type::Struct("Point"),
            _ => Type::Array(Box::new(self.local_scalar_or_vector()), self.random.between(2, 4)),
        }
    }

    fn tables(&mut self) {
        for number in 0..self.random.below(4) {
            let kind = self.number_kind();
            let element = match self.random.below(8) {
                0 | 1 => Type::Scalar(kind),
                2 => Type::Vector(kind, self.random.between(2, 4)),
                3 => Type::Struct(["Point", "Cell"][self.random.below(2) as usize]),
                4 => Type::Struct("Item"),
                _ => Type::Atomic(*self.random.pick(&[Kind::U32, Kind::I32])),
            };
            let has_atomics = matches!(element, Type::Atomic(_) | Type::Struct("Item"));
            let is_writable = has_atomics || self.random.chance(1, 2);
            let size = self.random.chance(1, 3).then(|| self.random.between(1, 4));
            let id = self.new_name(format!("t{number}"));
            self.handler.tables.push(Table { id, element, size, is_writable });
        }
    }

    /// Begins a function: its parameters are in the scope, and so is the module.
    fn begin(&mut self, parameters: &[(Id, Type)], result: Type, can_use_privates: bool) {
        self.scope = self.module_scope.clone();
        for (id, ty) in parameters {
            let (role, ty) = match ty {
                Type::Pointer(pointee, space) => (Role::Pointer(*space), (**pointee).clone()),
                ty => (Role::Value, ty.clone()),
            };
            self.scope.push(Entry { id: *id, ty, role, root: *id, is_kept: true });
        }
        self.block_start = self.handler.names.len();
        self.result = result;
        self.can_use_privates = can_use_privates;
        self.uses_privates = false;
    }

    fn end(&mut self, name: String, parameters: Vec<(Id, Type)>, body: Vec<super::ast::Stmt>) {
        let (result, uses_privates) = (self.result.clone(), self.uses_privates);
        self.handler.functions.push(Function { name, parameters, result, body, uses_privates });
    }

    fn helper(&mut self, number: u32) {
        let kind = self.number_kind();
        let mut parameters = vec![(self.new_name("x".to_string()), Type::Scalar(kind))];
        if self.random.chance(1, 2) {
            let ty = self.local_type();
            parameters.push((self.new_name("y".to_string()), ty));
        }
        let mut has_private_pointer = false;
        for name in ["p", "q"] {
            if self.random.chance(2, 5) {
                let space = if self.random.chance(1, 4) { Space::Private } else { Space::Function };
                has_private_pointer |= space == Space::Private;
                let pointee = self.pointee(space);
                parameters.push((self.new_name(name.to_string()), Type::Pointer(Box::new(pointee), space)));
            }
        }
        let result = if self.random.chance(1, 5) { Type::Nothing } else { self.local_type() };
        self.begin(&parameters, result, !has_private_pointer);
        self.statements_left = self.random.between(1, 9) as i32;
        self.expressions_left = 70;
        let flow = Flow { can_break: false, can_continue: false, can_return: true, depth: 1, loops: 0 };
        let (count, result) = (self.statements_left as u32, self.result.clone());
        let mut body = self.pointees();
        body.extend(self.statements(count, flow));
        if result != Type::Nothing {
            let value = self.expr(&result, 2, Need::Any);
            body.push(super::ast::Stmt::Return(Some(value)));
        }
        self.end(format!("helper{number}"), parameters, body);
    }

    /// Variables for the helpers that take a pointer, so that they can be called.
    fn pointees(&mut self) -> Vec<super::ast::Stmt> {
        let parameters = self.handler.functions.iter().flat_map(|function| &function.parameters);
        let pointees = parameters.filter_map(|(_, ty)| match ty {
            Type::Pointer(pointee, Space::Function) => Some((**pointee).clone()),
            _ => None,
        });
        let pointees: Vec<Type> = pointees.collect();
        pointees.into_iter().filter_map(|ty| self.random.chance(1, 2).then(|| self.variable(ty))).collect()
    }

    /// Something that a caller has: of a private variable, its own type.
    fn pointee(&mut self, space: Space) -> Type {
        if space == Space::Private {
            let privates = &self.handler.privates;
            let index = self.random.below(privates.len() as u32) as usize;
            return privates[index].1.clone();
        }
        match self.random.below(6) {
            0 => Type::Struct("State"),
            1 => Type::Struct("Point"),
            2 => Type::Array(Box::new(self.local_scalar_or_vector()), self.random.between(2, 4)),
            _ => self.local_type(),
        }
    }

    fn on_message(&mut self) {
        let message = self.new_name("m".to_string());
        let mut parameters = vec![(message, Type::Struct("In"))];
        if self.random.chance(3, 5) {
            let pointer = Type::Pointer(Box::new(Type::Struct("State")), Space::Function);
            parameters.push((self.new_name("s".to_string()), pointer));
        }
        let result = if self.handler.has_reply { Type::Struct("Out") } else { Type::Nothing };
        self.message = Some(message);
        self.begin(&parameters, result.clone(), true);
        self.statements_left = self.random.between(5, 30) as i32;
        self.expressions_left = 260;
        let flow = Flow { can_break: false, can_continue: false, can_return: true, depth: 0, loops: 0 };
        let mut body = self.pointees();
        body.extend(self.statements(self.statements_left as u32, flow));
        if result != Type::Nothing {
            self.expressions_left = 40;
            let members = self.handler.members("Out").to_vec();
            let values = members.iter().map(|(_, ty)| self.expr(ty, 3, Need::Any)).collect();
            let value = Expr::new(result, Form::Construct, values);
            body.push(super::ast::Stmt::Return(Some(value)));
        }
        self.end("on_message".to_string(), parameters, body);
    }
}
