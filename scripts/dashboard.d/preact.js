import { h, render, Fragment } from 'preact';
import { useState, useEffect, useRef, useMemo } from 'preact/hooks';
import { signal, computed, effect, batch, untracked, useSignal, useComputed, useSignalEffect } from '@preact/signals';
import htm from 'htm';
export const html = htm.bind(h);
export { h, render, Fragment, useState, useEffect, useRef, useMemo };
export { signal, computed, effect, batch, untracked, useSignal, useComputed, useSignalEffect };
