// What the dashboard uses of its bundle, for the check of types.

interface Signal<T> {
  value: T;
  peek(): T;
}
type Setter<T> = (next: T | ((before: T) => T)) => void;

export function html(texts: TemplateStringsArray, ...values: any[]): any;
export const Fragment: any;
export function render(what: any, into: Element | null): void;
export function useState<T = any>(first: T | (() => T)): [T, Setter<T>];
export function useEffect(run: () => void | (() => void), of?: any[]): void;
export function useRef(first: any): { current: any };
export function useMemo<T>(make: () => T, of: any[]): T;
export function signal<T = any>(first: T): Signal<T>;
export function computed<T>(of: () => T): Signal<T>;
export function useComputed<T>(of: () => T): Signal<T>;
export function effect(run: () => void | (() => void)): () => void;
export function batch(run: () => void): void;
export function untracked<T>(run: () => T): T;
