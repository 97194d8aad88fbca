//! Places: variables, tables and what pointers point to, down to a member or element of a wanted type.

use super::super::ast::{Expr, Form, I32, Kind, Space, Type, U32};
use super::{Builder, Entry, Need, Role};

/// A way from a value to a part of it.
#[derive(Clone)]
enum Step {
    Member(&'static str, Type),
    /// The element's type, and how many there are; 0 if only the buffer knows.
    Element(Type, u32),
}

/// What a place is for.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Use {
    Read,
    Write,
    /// `&x`, which no component of a vector has.
    Address,
}

impl Builder {
    /// Every way from a type to the wanted one.
    fn ways(&self, ty: &Type, wanted: &Type, purpose: Use, way: &mut Vec<Step>, found: &mut Vec<Vec<Step>>) {
        if ty == wanted {
            found.push(way.clone());
        }
        match ty {
            Type::Struct(name) => {
                for (member, ty) in self.handler.members(name) {
                    way.push(Step::Member(member, ty.clone()));
                    self.ways(ty, wanted, purpose, way, found);
                    way.pop();
                }
            }
            Type::Vector(..) if purpose == Use::Address => {}
            _ => {
                if let Some((element, len)) = ty.element() {
                    way.push(Step::Element(element.clone(), len));
                    self.ways(&element, wanted, purpose, way, found);
                    way.pop();
                }
            }
        }
    }

    /// The place at the end of a way.
    fn follow(&mut self, root: Expr, way: &[Step]) -> Expr {
        let mut place = root;
        for step in way {
            place = match step {
                Step::Member(name, ty) => place.member(ty.clone(), name),
                Step::Element(ty, len) => self.element(place, ty.clone(), *len),
            };
        }
        place
    }

    /// An element of a place or value; `len` is 0 for a table that only the buffer knows the length of.
    pub(super) fn element(&mut self, base: Expr, ty: Type, len: u32) -> Expr {
        let must_run = base.is_constant();
        if matches!(base.ty, Type::Vector(..)) && !must_run && self.random.chance(1, 2) {
            let component = self.random.below(len) as usize;
            return Expr::new(ty, Form::Swizzle(vec![component]), vec![base]);
        }
        self.expressions_left -= 1;
        let index = if !must_run && (self.expressions_left < 0 || self.random.chance(1, 3)) {
            let index = if len == 0 { self.random.below(9) } else { self.random.below(len) };
            let kind = if self.random.chance(1, 4) { Kind::I32 } else { Kind::U32 };
            Expr::literal(kind, index)
        } else {
            let index_type = if self.random.chance(1, 2) { U32 } else { I32 };
            let depth = self.random.below(2);
            self.expr(&index_type, depth, Need::Runtime)
        };
        base.index(ty, index)
    }

    /// The expression of a name, as the root of a place.
    fn root(&mut self, entry: &Entry) -> Expr {
        match entry.role {
            Role::Constant => Expr::new(entry.ty.clone(), Form::Constant(entry.id), Vec::new()),
            Role::Pointer(space) => {
                let pointer = Type::Pointer(Box::new(entry.ty.clone()), space);
                Expr::new(entry.ty.clone(), Form::Deref, vec![Expr::name(pointer, entry.id)])
            }
            role => {
                self.uses_privates |= role == Role::Private;
                Expr::name(entry.ty.clone(), entry.id)
            }
        }
    }

    fn is_usable(&self, entry: &Entry, purpose: Use) -> bool {
        match entry.role {
            Role::Constant => false,
            Role::Value => purpose == Use::Read,
            Role::Private => self.can_use_privates,
            Role::Variable | Role::Pointer(_) => true,
        }
    }

    /// A place of this type: in a variable, a parameter or behind a pointer.
    pub(super) fn place(&mut self, wanted: &Type, purpose: Use) -> Option<Expr> {
        let count = self.scope.len() as u32;
        // Later names first: what was computed last is looked at.
        let start = if self.random.chance(1, 2) { count - 1 } else { self.random.below(count) };
        for offset in 0..count {
            let entry = self.scope[((start + count - offset) % count) as usize].clone();
            if !self.is_usable(&entry, purpose) {
                continue;
            }
            let mut found = Vec::new();
            self.ways(&entry.ty, wanted, purpose, &mut Vec::new(), &mut found);
            if !found.is_empty() {
                let way = self.random.pick(&found).clone();
                let root = self.root(&entry);
                return Some(self.follow(root, &way));
            }
        }
        None
    }

    /// A place of this type in a table.
    pub(super) fn table_place(&mut self, wanted: &Type, purpose: Use) -> Option<Expr> {
        let count = self.handler.tables.len() as u32;
        let start = self.random.below(count);
        for offset in 0..count {
            let table = self.handler.tables[((start + offset) % count) as usize].clone();
            if purpose != Use::Read && !table.is_writable {
                continue;
            }
            let mut way = vec![Step::Element(table.element.clone(), table.size.unwrap_or(0))];
            let mut found = Vec::new();
            self.ways(&table.element, wanted, purpose, &mut way, &mut found);
            if !found.is_empty() {
                let way = self.random.pick(&found).clone();
                let element = Type::Array(Box::new(table.element.clone()), table.size.unwrap_or(0));
                return Some(self.follow(Expr::name(element, table.id), &way));
            }
        }
        None
    }

    /// A field of the message, down to a part of this type.
    pub(super) fn message_part(&mut self, wanted: &Type) -> Option<Expr> {
        let message = self.message?;
        let ty = Type::Struct("In");
        let mut found = Vec::new();
        self.ways(&ty, wanted, Use::Read, &mut Vec::new(), &mut found);
        if found.is_empty() {
            return None;
        }
        let way = self.random.pick(&found).clone();
        Some(self.follow(Expr::name(ty, message), &way))
    }

    /// A pointer to something of this type, and its root, which is none of `taken`.
    pub(super) fn pointer(&mut self, pointee: &Type, space: Space, taken: &[usize]) -> Option<(Expr, usize)> {
        let count = self.scope.len() as u32;
        let start = self.random.below(count);
        for offset in 0..count {
            let entry = self.scope[((start + offset) % count) as usize].clone();
            let fits = match entry.role {
                Role::Variable => space == Space::Function,
                Role::Private => space == Space::Private && self.can_use_privates,
                Role::Pointer(own) => own == space,
                _ => false,
            };
            if !fits || taken.contains(&entry.root) {
                continue;
            }
            let mut found = Vec::new();
            self.ways(&entry.ty, pointee, Use::Address, &mut Vec::new(), &mut found);
            if found.is_empty() {
                continue;
            }
            let way = self.random.pick(&found).clone();
            let is_whole = way.is_empty();
            if let (true, Role::Pointer(space)) = (is_whole, entry.role) {
                let ty = Type::Pointer(Box::new(entry.ty.clone()), space);
                return Some((Expr::name(ty, entry.id), entry.root));
            }
            let root = self.root(&entry);
            return Some((self.follow(root, &way).address(space), entry.root));
        }
        None
    }

    /// Somewhere to store a value to.
    pub(super) fn target(&mut self) -> Option<Expr> {
        let tables: Vec<_> = self.handler.tables.iter().filter(|t| t.is_writable).cloned().collect();
        let mut place = if !tables.is_empty() && self.random.chance(1, 4) {
            let table = self.random.pick(&tables).clone();
            let len = table.size.unwrap_or(0);
            let whole = Type::Array(Box::new(table.element.clone()), len);
            self.element(Expr::name(whole, table.id), table.element, len)
        } else {
            let entries: Vec<_> =
                self.scope.iter().filter(|entry| self.is_usable(entry, Use::Write)).cloned().collect();
            if entries.is_empty() {
                return None;
            }
            let entry = self.random.pick(&entries).clone();
            self.root(&entry)
        };
        // Down to a part, sometimes; what holds an atomic is never stored whole.
        for _ in 0..4 {
            let holds_atomic = place.ty == Type::Struct("Item");
            if !holds_atomic && self.random.chance(1, 2) {
                break;
            }
            place = match place.ty.clone() {
                Type::Struct(name) => {
                    let members = self.handler.members(name).to_vec();
                    let (member, ty) = self.random.pick(&members).clone();
                    place.member(ty, member)
                }
                ty => match ty.element() {
                    Some((element, len)) => self.element(place, element, len),
                    None => break,
                },
            };
        }
        (place.ty != Type::Struct("Item")).then_some(place)
    }
}
