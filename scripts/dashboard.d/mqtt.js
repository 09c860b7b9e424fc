export { default } from 'mqtt';
