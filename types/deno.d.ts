/**
 * The part of the global `Deno` namespace that this project touches, for `tsc`. `deno check` brings its own
 * declarations and never reads this file. The foreign function interface is condensed from `deno types`
 * (Copyright 2018-2026 the Deno authors, MIT license); keep it in step with the Deno version in package.json.
 */

type AllowSharedBufferSource = ArrayBufferView | ArrayBufferLike;

declare namespace Deno {
  const version: { readonly deno: string; readonly v8: string; readonly typescript: string };
  const build: { readonly arch: "x86_64" | "aarch64"; readonly os: "linux" | "darwin" | "windows" };
  const mainModule: string;
  const args: string[];
  const pid: number;
  function exit(code?: number): never;
  function refTimer(id: number): void;
  function unrefTimer(id: number): void;

  type NativeNumberType =
    | "u8"
    | "i8"
    | "u16"
    | "i16"
    | "u32"
    | "i32"
    | "f32"
    | "f64";

  export type NativeBigIntType = "u64" | "i64" | "usize" | "isize";

  export type NativeBooleanType = "bool";

  export type NativePointerType = "pointer";

  export type NativeBufferType = "buffer";

  export type NativeFunctionType = "function";

  export type NativeVoidType = "void";

  export interface NativeStructType {
    readonly struct: readonly NativeType[];
  }

  const brand: unique symbol;

  export type NativeU8Enum<T extends number> = "u8" & { [brand]: T };
  export type NativeI8Enum<T extends number> = "i8" & { [brand]: T };
  export type NativeU16Enum<T extends number> = "u16" & { [brand]: T };
  export type NativeI16Enum<T extends number> = "i16" & { [brand]: T };
  export type NativeU32Enum<T extends number> = "u32" & { [brand]: T };
  export type NativeI32Enum<T extends number> = "i32" & { [brand]: T };
  export type NativeTypedPointer<T extends PointerObject> = "pointer" & {
    [brand]: T;
  };
  export type NativeTypedFunction<T extends UnsafeCallbackDefinition> =
    & "function"
    & {
      [brand]: T;
    };

  export type NativeType =
    | NativeNumberType
    | NativeBigIntType
    | NativeBooleanType
    | NativePointerType
    | NativeBufferType
    | NativeFunctionType
    | NativeStructType;

  export type NativeResultType = NativeType | NativeVoidType;

  export type ToNativeType<T extends NativeType = NativeType> = T extends NativeStructType
    ? AllowSharedBufferSource
    : T extends NativeNumberType ? T extends NativeU8Enum<infer U> ? U
      : T extends NativeI8Enum<infer U> ? U
      : T extends NativeU16Enum<infer U> ? U
      : T extends NativeI16Enum<infer U> ? U
      : T extends NativeU32Enum<infer U> ? U
      : T extends NativeI32Enum<infer U> ? U
      : number
    : T extends NativeBigIntType ? bigint
    : T extends NativeBooleanType ? boolean
    : T extends NativePointerType ? T extends NativeTypedPointer<infer U> ? U | null
      : PointerValue
    : T extends NativeFunctionType ? T extends NativeTypedFunction<infer U> ? PointerValue<U> | null
      : PointerValue
    : T extends NativeBufferType ? AllowSharedBufferSource | null
    : never;

  export type ToNativeResultType<
    T extends NativeResultType = NativeResultType,
  > = T extends NativeStructType ? AllowSharedBufferSource
    : T extends NativeNumberType ? T extends NativeU8Enum<infer U> ? U
      : T extends NativeI8Enum<infer U> ? U
      : T extends NativeU16Enum<infer U> ? U
      : T extends NativeI16Enum<infer U> ? U
      : T extends NativeU32Enum<infer U> ? U
      : T extends NativeI32Enum<infer U> ? U
      : number
    : T extends NativeBigIntType ? bigint
    : T extends NativeBooleanType ? boolean
    : T extends NativePointerType ? T extends NativeTypedPointer<infer U> ? U | null
      : PointerValue
    : T extends NativeFunctionType ? T extends NativeTypedFunction<infer U> ? PointerObject<U> | null
      : PointerValue
    : T extends NativeBufferType ? AllowSharedBufferSource | null
    : T extends NativeVoidType ? void
    : never;

  export type ToNativeParameterTypes<T extends readonly NativeType[]> = [T[number][]] extends [T]
    ? ToNativeType<T[number]>[]
    : [readonly T[number][]] extends [T] ? readonly ToNativeType<T[number]>[]
    : T extends readonly [...NativeType[]] ? {
        [K in keyof T]: ToNativeType<T[K]>;
      }
    : never;

  export type FromNativeType<T extends NativeType = NativeType> = T extends NativeStructType
    ? Uint8Array<ArrayBuffer>
    : T extends NativeNumberType ? T extends NativeU8Enum<infer U> ? U
      : T extends NativeI8Enum<infer U> ? U
      : T extends NativeU16Enum<infer U> ? U
      : T extends NativeI16Enum<infer U> ? U
      : T extends NativeU32Enum<infer U> ? U
      : T extends NativeI32Enum<infer U> ? U
      : number
    : T extends NativeBigIntType ? bigint
    : T extends NativeBooleanType ? boolean
    : T extends NativePointerType ? T extends NativeTypedPointer<infer U> ? U | null
      : PointerValue
    : T extends NativeBufferType ? PointerValue
    : T extends NativeFunctionType ? T extends NativeTypedFunction<infer U> ? PointerObject<U> | null
      : PointerValue
    : never;

  export type FromNativeResultType<
    T extends NativeResultType = NativeResultType,
  > = T extends NativeStructType ? Uint8Array<ArrayBuffer>
    : T extends NativeNumberType ? T extends NativeU8Enum<infer U> ? U
      : T extends NativeI8Enum<infer U> ? U
      : T extends NativeU16Enum<infer U> ? U
      : T extends NativeI16Enum<infer U> ? U
      : T extends NativeU32Enum<infer U> ? U
      : T extends NativeI32Enum<infer U> ? U
      : number
    : T extends NativeBigIntType ? bigint
    : T extends NativeBooleanType ? boolean
    : T extends NativePointerType ? T extends NativeTypedPointer<infer U> ? U | null
      : PointerValue
    : T extends NativeBufferType ? PointerValue
    : T extends NativeFunctionType ? T extends NativeTypedFunction<infer U> ? PointerObject<U> | null
      : PointerValue
    : T extends NativeVoidType ? void
    : never;

  export type FromNativeParameterTypes<T extends readonly NativeType[]> = [T[number][]] extends [T]
    ? FromNativeType<T[number]>[]
    : [readonly T[number][]] extends [T] ? readonly FromNativeType<T[number]>[]
    : T extends readonly [...NativeType[]] ? {
        [K in keyof T]: FromNativeType<T[K]>;
      }
    : never;

  export interface ForeignFunction<
    Parameters extends readonly NativeType[] = readonly NativeType[],
    Result extends NativeResultType = NativeResultType,
    NonBlocking extends boolean = boolean,
  > {
    name?: string;
    parameters: Parameters;
    result: Result;
    nonblocking?: NonBlocking;
    optional?: boolean;
  }

  export interface ForeignStatic<Type extends NativeType = NativeType> {
    name?: string;
    type: Type;
    optional?: boolean;
  }

  export interface ForeignLibraryInterface {
    [name: string]: ForeignFunction | ForeignStatic;
  }

  export type StaticForeignSymbol<T extends ForeignFunction | ForeignStatic> = T extends ForeignFunction
    ? FromForeignFunction<T>
    : T extends ForeignStatic ? FromNativeType<T["type"]>
    : never;

  export type FromForeignFunction<T extends ForeignFunction> = T["parameters"] extends readonly []
    ? () => StaticForeignSymbolReturnType<T>
    : (
      ...args: ToNativeParameterTypes<T["parameters"]>
    ) => StaticForeignSymbolReturnType<T>;

  export type StaticForeignSymbolReturnType<T extends ForeignFunction> = ConditionalAsync<
    T["nonblocking"],
    FromNativeResultType<T["result"]>
  >;

  export type ConditionalAsync<
    IsAsync extends boolean | undefined,
    T,
  > = IsAsync extends true ? Promise<T> : T;

  export type StaticForeignLibraryInterface<T extends ForeignLibraryInterface> = {
    [K in keyof T]: T[K]["optional"] extends true ? StaticForeignSymbol<T[K]> | null
      : StaticForeignSymbol<T[K]>;
  };

  export interface PointerObject<T = unknown> {
    [brand]: T;
  }

  export type PointerValue<T = unknown> = null | PointerObject<T>;

  export class UnsafePointer {
    static create<T = unknown>(value: bigint): PointerValue<T>;
    static equals<T = unknown>(a: PointerValue<T>, b: PointerValue<T>): boolean;
    static of<T = unknown>(
      value: Deno.UnsafeCallback | AllowSharedBufferSource,
    ): PointerValue<T>;
    static offset<T = unknown>(
      value: PointerObject,
      offset: number,
    ): PointerValue<T>;
    static value(value: PointerValue): bigint;
  }

  export class UnsafePointerView {
    constructor(pointer: PointerObject);

    pointer: PointerObject;

    getBool(offset?: number): boolean;
    getUint8(offset?: number): number;
    getInt8(offset?: number): number;
    getUint16(offset?: number): number;
    getInt16(offset?: number): number;
    getUint32(offset?: number): number;
    getInt32(offset?: number): number;
    getBigUint64(offset?: number): bigint;
    getBigInt64(offset?: number): bigint;
    getFloat32(offset?: number): number;
    getFloat64(offset?: number): number;
    getPointer<T = unknown>(offset?: number): PointerValue<T>;
    getCString(offset?: number): string;
    static getCString(pointer: PointerObject, offset?: number): string;
    getArrayBuffer(byteLength: number, offset?: number): ArrayBuffer;
    static getArrayBuffer(
      pointer: PointerObject,
      byteLength: number,
      offset?: number,
    ): ArrayBuffer;
    copyInto(destination: AllowSharedBufferSource, offset?: number): void;
    static copyInto(
      pointer: PointerObject,
      destination: AllowSharedBufferSource,
      offset?: number,
    ): void;
  }

  export class UnsafeFnPointer<const Fn extends ForeignFunction> {
    pointer: PointerObject<Fn>;
    definition: Fn;

    constructor(
      pointer: PointerObject<NoInfer<Omit<Fn, "nonblocking">>>,
      definition: Fn,
    );

    call: FromForeignFunction<Fn>;
  }

  export interface UnsafeCallbackDefinition<
    Parameters extends readonly NativeType[] = readonly NativeType[],
    Result extends NativeResultType = NativeResultType,
  > {
    parameters: Parameters;
    result: Result;
  }

  export type UnsafeCallbackFunction<
    Parameters extends readonly NativeType[] = readonly NativeType[],
    Result extends NativeResultType = NativeResultType,
  > = Parameters extends readonly [] ? () => ToNativeResultType<Result>
    : (
      ...args: FromNativeParameterTypes<Parameters>
    ) => ToNativeResultType<Result>;

  export class UnsafeCallback<
    const Definition extends UnsafeCallbackDefinition = UnsafeCallbackDefinition,
  > {
    constructor(
      definition: Definition,
      callback: UnsafeCallbackFunction<
        Definition["parameters"],
        Definition["result"]
      >,
    );

    readonly pointer: PointerObject<Definition>;
    readonly definition: Definition;
    readonly callback: UnsafeCallbackFunction<
      Definition["parameters"],
      Definition["result"]
    >;

    static threadSafe<
      Definition extends UnsafeCallbackDefinition = UnsafeCallbackDefinition,
    >(
      definition: Definition,
      callback: UnsafeCallbackFunction<
        Definition["parameters"],
        Definition["result"]
      >,
    ): UnsafeCallback<Definition>;

    ref(): number;

    unref(): number;

    close(): void;
  }

  export interface DynamicLibrary<S extends ForeignLibraryInterface> {
    symbols: StaticForeignLibraryInterface<S>;
    close(): void;
  }

  export function dlopen<const S extends ForeignLibraryInterface>(
    filename: string | URL,
    symbols: S,
  ): DynamicLibrary<S>;
}
